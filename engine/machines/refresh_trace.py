"""What a refresh does with its token, step by step, for a journal. No step holds a secret.

A claim on a refresh token changes in several processes. Each tells its own steps here, in order. The events
(model/events.py) tell what the steps led to.
"""

from typing import TypeAlias

import msgspec

from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, RefreshClaimTrigger
from authstate.engine.model.errors import AuthstateError


class ClaimStep(msgspec.Struct, frozen=True):
    """A trigger of the table of refresh claims was fired for a token."""

    trigger: RefreshClaimTrigger
    found: RefreshClaimState
    """The state before it. For `claim`, what the store held."""
    claim: RefreshClaim
    """The claim after it. `holder` is empty."""
    is_recorded: bool
    """False if the store raised an error: then the claim may or may not be written."""
    could_wait: bool = False
    """The token may be spent, and the access token is usable: then a token must not be claimed. For `claim`."""


class TokenSent(msgspec.Struct, frozen=True):
    """A refresh token is about to be sent to the issuer."""

    fingerprint: str
    attempt: int
    """From 1, within one refresh."""


class TokenAnswered(msgspec.Struct, frozen=True):
    """What became of a refresh token that was sent."""

    fingerprint: str
    attempt: int
    error: AuthstateError | None = None
    """Why there are no new tokens. None if they came."""


class AccessRefused(msgspec.Struct, frozen=True):
    """The backend answered 401 to an access token, and somebody asked for another one."""

    generation: int
    """Of the newest session with that token, as far as is known."""


class EngineEnded(msgspec.Struct, frozen=True):
    """The engine was closed. It is its last step."""


TraceStep: TypeAlias = ClaimStep | TokenSent | TokenAnswered | AccessRefused | EngineEnded
