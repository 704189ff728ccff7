"""Session: what a moment of a login looks like, immutable."""

import msgspec

from authstate.engine.model.credentials import Account, ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.states import AuthState


class Failure(msgspec.Struct, frozen=True):
    """Why the session is not what the person wants, and what to do."""

    message: str
    reason: RefreshDeadReason | None = None
    """Set in refresh_dead; None when a policy refused the credentials."""
    detail: str = ""
    on_arrival: bool = False
    """The refresh token was found dead before this process ever had a usable access token: a login is required, and
    the account API reports no account."""


class Session(msgspec.Struct, frozen=True):
    """One immutable snapshot. A transition installs the next one with the generation one higher.

    Reading the current one costs an attribute read. Whoever sends a request keeps the generation it was authorized
    with.
    """

    state: AuthState = AuthState.LOGGED_OUT
    credentials: Credentials | None = None
    failure: Failure | None = None
    generation: int = 0

    @property
    def account(self) -> Account | None:
        """The account of the credentials; None for an API key and where there are none."""
        credentials = self.credentials
        if credentials is None or isinstance(credentials, ApiKey):
            return None
        return credentials.account

    def has_same_access_as(self, other: "Session") -> bool:
        """Whether both are the same managed access token: a refresh token can be new beside one that is not."""
        mine, theirs = self.credentials, other.credentials
        if isinstance(mine, ChatgptTokens) and isinstance(theirs, ChatgptTokens):
            return mine.access_token == theirs.access_token
        return mine is theirs
