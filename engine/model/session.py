"""Session: one moment of a login. Authorization: the token of one, which authorizes a request. Both are immutable."""

from functools import cached_property

import msgspec

from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken
from authstate.engine.model.errors import InvalidCredentials, NotSignedIn, RefreshDeadReason, TransientAuthError
from authstate.engine.model.secret import Secret, fits_header
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
        """The account of the credentials. None for an API key, for a personal access token whose owner is not known
        yet, and if there are no credentials.
        """
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


class Authorization(msgspec.Struct, frozen=True, dict=True):
    """The token that authorizes a request. Keep it until the response: `recover` needs it after a 401."""

    token: Secret
    account_id: str | None
    generation: int
    user_id: str | None = None
    """The person, if the claims name one. Two people of one workspace are two accounts."""
    is_api_key: bool = False
    expires_at: float | None = None
    """Seconds since the epoch; None if the token does not expire, or if that is not known."""
    is_parents_answer: bool = False
    """The parent application gave this token after a 401 for an earlier one. See `AuthEngine.recover`."""

    def headers(self) -> dict[str, str]:
        """The headers of an authorized request. They hold the token: do not log them.

        Raises:
            InvalidCredentials: no header can carry the token or the account id. This happens only if it was made by
                hand instead of by `ApiKey.parse`, `ChatgptTokens.read` or `ExternalTokens.read`.
        """
        headers = {"Authorization": self._bearer.reveal()}
        if self.account_id is not None:
            headers["chatgpt-account-id"] = self.account_id
        return headers

    @cached_property
    def _bearer(self) -> Secret:
        """The value of the header. It is built and checked once, because that takes longer than all else."""
        if not fits_header(self.token.reveal()) or not fits_header(self.account_id or "none"):
            raise InvalidCredentials("no HTTP header can carry the token or the account id: sign in again")
        return Secret(f"Bearer {self.token.reveal()}")

    def is_same_account_as(self, other: "Authorization") -> bool:
        """Whether a request that was authorized with `other` may be sent again with this one."""
        users = {self.user_id, other.user_id} - {None}
        is_key = self.is_api_key or other.is_api_key  # a key does not tell whose it is
        return not is_key and self.account_id == other.account_id and len(users) < 2

    @classmethod
    def of(cls, session: Session) -> "Authorization":
        """The authorization of a session.

        Raises:
            NotSignedIn: there are no credentials; with the reason, if one is known.
            TransientAuthError: the owner of a personal access token is not known yet, so no policy has allowed it.
        """
        credentials = session.credentials
        if credentials is None:
            raise NotSignedIn(session.failure.message if session.failure else "nobody is signed in: sign in first")
        if isinstance(credentials, ApiKey):
            return cls(credentials.key, None, session.generation, is_api_key=True)
        if isinstance(credentials, PersonalAccessToken):
            owner = credentials.account
            if owner is None:
                raise TransientAuthError("the owner of the personal access token is not known yet: try again")
            return cls(credentials.token, owner.account_id, session.generation, owner.user_id)
        account = credentials.account
        token, expires_at = credentials.access_token, credentials.expires_at
        return cls(token, account.account_id, session.generation, account.user_id, expires_at=expires_at)
