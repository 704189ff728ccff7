"""What an account can hold, as the reference models see it: plain values that compare by content.

Both reference models use them: the one of the engine, in the tests, and the one of the account API.
"""

from typing import NamedTuple, TypeAlias

from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import LoginMethodForbidden, WorkspaceForbidden
from authstate.engine.model.policy import LoginMethod, Policy


class Key(NamedTuple):
    """An API key."""

    key: str


class Managed(NamedTuple):
    """The tokens of a ChatGPT login. `given` is the time of the last refresh."""

    refresh: str
    access: str
    workspace: str | None
    expires: float | None
    given: float | None

    @classmethod
    def of(cls, tokens: ChatgptTokens) -> "Managed":
        """Read them from the engine's value."""
        refresh, access = tokens.refresh_token.reveal(), tokens.access_token.reveal()
        return cls(refresh, access, tokens.account.account_id, tokens.expires_at, tokens.last_refresh)


class External(NamedTuple):
    """External tokens, which the parent application passes in."""

    access: str
    workspace: str | None
    expires: float | None

    @classmethod
    def of(cls, tokens: ExternalTokens) -> "External":
        """Read them from the engine's value."""
        return cls(tokens.access_token.reveal(), tokens.account.account_id, tokens.expires_at)


Held: TypeAlias = Key | Managed | External | None


def violation(policy: Policy, held: Held) -> type[Exception] | None:
    """Return the error that the policy raises for these credentials, or None."""
    method = LoginMethod.API if isinstance(held, Key) else LoginMethod.CHATGPT
    if policy.forced_login_method not in (None, method):
        return LoginMethodForbidden
    if isinstance(held, Managed | External) and policy.forced_workspaces:
        return None if held.workspace in policy.forced_workspaces else WorkspaceForbidden
    return None
