"""Session: one moment of a login, immutable."""

import msgspec

from authstate.engine.model.credentials import Account, ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.states import AuthState


class Failure(msgspec.Struct, frozen=True):
    """Why nobody is signed in or the login does not work, and what to do."""

    message: str
    reason: RefreshDeadReason | None = None
    """Set in refresh_dead; None when a policy refused the credentials."""
    detail: str = ""
    on_arrival: bool = False
    """The refresh token was found dead before this process had a usable access token. So a login is required, and the
    account API reports no account."""


class Session(msgspec.Struct, frozen=True):
    """One immutable snapshot. Each transition installs the next one, whose generation is one higher.

    Reading the current one costs an attribute read. A request remembers the generation that it was authorized with.
    """

    state: AuthState = AuthState.LOGGED_OUT
    credentials: Credentials | None = None
    failure: Failure | None = None
    generation: int = 0

    @property
    def account(self) -> Account | None:
        """The account of the credentials. None for an API key, and if there are no credentials."""
        credentials = self.credentials
        if credentials is None or isinstance(credentials, ApiKey):
            return None
        return credentials.account

    def has_same_access_as(self, other: "Session") -> bool:
        """Whether both have the same access token. A new refresh token alone makes no difference."""
        mine, theirs = self.credentials, other.credentials
        if isinstance(mine, ChatgptTokens) and isinstance(theirs, ChatgptTokens):
            return mine.access_token == theirs.access_token
        return mine is theirs
