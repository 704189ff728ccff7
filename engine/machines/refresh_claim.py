"""What is known of refresh tokens that were sent: the refresh claims that a store keeps beside the login.

A refresh token works once, and an issuer may revoke the whole login if it sees one twice. So a process records a
refresh claim on a token before it sends the token, and every process that shares the login reads it first. A refresh
claim is not a claim of a JWT. It outlives its process, and tells the next one that a token may be spent or is dead. It
names a token by its fingerprint, a digest from which the token cannot be computed.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.machines.words import Words
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.secret import Secret


class RefreshClaimState(StrEnum):
    """What is known of a refresh token."""

    FREE = "free"
    """Nobody has sent it, or the issuer certainly did not use it."""
    CLAIMED = "claimed"
    """Its holder is about to send it, or waits for the answer."""
    DOUBTFUL = "doubtful"
    """It was sent, and nobody knows whether the issuer used it."""
    SPENT = "spent"
    """The issuer exchanged it. It is never sent again."""
    DEAD = "dead"
    """The issuer refused it for good."""


class RefreshClaimTrigger(StrEnum):
    """What can happen to a refresh token."""

    CLAIM = "claim"
    WITHDRAW = "withdraw"
    LOSE = "lose"
    SETTLE = "settle"
    REFUSE = "refuse"


_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")  # a database has no NUL, and a lone surrogate is not UTF-8
MAX_CLAIMS = 64
"""How many claims are kept. A backup that is older than this many refreshes has expired."""

_FREE, _CLAIMED, _DOUBTFUL, _SPENT, _DEAD = RefreshClaimState

REFRESH_CLAIM_TABLE = Table(
    name="refresh_claim",
    title="Claim on a refresh token",
    states=tuple(RefreshClaimState),
    initial=_FREE,
    rows=(
        Row(
            RefreshClaimTrigger.CLAIM,
            (_FREE, _CLAIMED, _DOUBTFUL),
            _CLAIMED,
            "it is about to be sent; a claim that is found under the lock is from a process that ended",
        ),
        Row(
            RefreshClaimTrigger.WITHDRAW,
            (_CLAIMED,),
            _FREE,
            "it was certainly not processed, or the issuer did not rotate it: it works as before",
        ),
        Row(RefreshClaimTrigger.LOSE, (_CLAIMED,), _DOUBTFUL, "it may have been processed, and no answer came"),
        Row(RefreshClaimTrigger.SETTLE, (_CLAIMED,), _SPENT, "the issuer sent another one, which is stored"),
        Row(RefreshClaimTrigger.REFUSE, (_CLAIMED,), _DEAD, "the issuer refused it for good"),
    ),
)

REFRESH_CLAIM_WORDS = Words(
    states={
        _FREE: "Nobody has sent the token, or the issuer certainly did not use it.",
        _CLAIMED: "Its holder is about to send the token, or waits for the answer.",
        _DOUBTFUL: "The token was sent, and nobody knows whether the issuer used it.",
        _SPENT: "The issuer exchanged the token, which is never sent again.",
        _DEAD: "The issuer refused the token for good.",
    },
)


class RefreshClaim(msgspec.Struct, frozen=True):
    """What is known of one refresh token."""

    fingerprint: str
    state: RefreshClaimState = RefreshClaimState.FREE
    at: float = 0.0
    """Seconds since the epoch: when the token was first sent, spent or refused."""
    holder: str = ""
    """Which process sent the token, for a person. The store fills it in."""
    sends: int = 0
    """How often the token was claimed."""
    reason: RefreshDeadReason | None = None
    """Why the token is dead."""
    detail: str = ""
    """What else is known of the cause: a sentence for a person. Each character that a store cannot keep is U+FFFD."""
    account: str = ""
    """`Account.digest` of whose token it is. Empty in claims of older releases."""
    successor: str = ""
    """The fingerprint of the token that the issuer sent for it, once it is spent. Empty in claims of older releases."""

    def __post_init__(self) -> None:
        if _NOT_STORABLE.search(self.detail):
            msgspec.structs.force_setattr(self, "detail", _NOT_STORABLE.sub("\ufffd", self.detail))

    @property
    def is_in_doubt(self) -> bool:
        """Whether the token may be spent: an answer was lost, or the sending process ended before one came."""
        return self.state in (RefreshClaimState.CLAIMED, RefreshClaimState.DOUBTFUL)

    def after(
        self,
        trigger: RefreshClaimTrigger,
        now: float,
        *,
        reason: RefreshDeadReason | None = None,
        detail: str = "",
        successor: str = "",
    ) -> "RefreshClaim":
        """Return the claim after a trigger.

        Args:
            trigger: what happened.
            now: in seconds since the epoch.
            reason: why the token is dead.
            detail: what else is known of the cause.
            successor: the fingerprint of the token that the issuer sent for it.

        Raises:
            TransitionRefused: the table has no such row.
        """
        model = _Model(self.state)
        shared_machine(REFRESH_CLAIM_TABLE).fire(model, trigger)
        sends = self.sends + (trigger is RefreshClaimTrigger.CLAIM)
        at = self.at if self.is_in_doubt and model.state in (_CLAIMED, _DOUBTFUL) else now
        return RefreshClaim(
            self.fingerprint,
            RefreshClaimState(model.state),
            at,
            sends=sends,
            reason=reason,
            detail=detail,
            account=self.account,
            successor=successor,
        )

    def describe_doubt(self) -> str:
        """Return why the token may be spent: a clause for a person, without a full stop."""
        if self.state is RefreshClaimState.CLAIMED:
            return f"{self.holder} ended in the middle of a refresh at {format_time(self.at)}"
        return f"the answer to a refresh by {self.holder} at {format_time(self.at)} was lost on its way"


class _Model:
    """The state that the table changes."""

    __slots__ = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state


def with_claim(claims: Mapping[str, RefreshClaim], claim: RefreshClaim) -> dict[str, RefreshClaim]:
    """Return the claims and one more, by fingerprint, the newest last. Drops a free claim, and all but the last 64."""
    others = {name: other for name, other in claims.items() if name != claim.fingerprint}
    if claim.state is not RefreshClaimState.FREE:
        others[claim.fingerprint] = claim
    return dict(list(others.items())[-MAX_CLAIMS:])


def fingerprint_of(refresh_token: Secret) -> str:
    """Return the name of a refresh token in a claim: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(refresh_token.reveal().encode("utf-8", "surrogatepass")).hexdigest()[:32]


def format_time(seconds: float) -> str:
    """Format a time for a person. Return "an unknown time" if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
