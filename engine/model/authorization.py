"""Authorization: the token that authorizes a request, immutable."""

import msgspec

from authstate.engine.model.credentials import ApiKey, Secret, fits_header
from authstate.engine.model.errors import InvalidCredentials, NotSignedIn
from authstate.engine.model.session import Session


class Authorization(msgspec.Struct, frozen=True):
    """The token that authorizes a request. Keep it until the response: `recover` needs it after a 401."""

    token: Secret
    account_id: str | None
    generation: int
    user_id: str | None = None
    """The person, if the claims name one. Two people of one workspace are two accounts."""
    is_api_key: bool = False
    is_parents_answer: bool = False
    """The parent application gave this token after a 401 for an earlier one. See `AuthEngine.recover`."""

    def headers(self) -> dict[str, str]:
        """The headers of an authorized request. They hold the token: do not log them.

        Raises:
            InvalidCredentials: no header can carry the token or the account id. This happens only if it was made by
                hand instead of by `ApiKey.parse`, `ChatgptTokens.read` or `ExternalTokens.read`.
        """
        if not fits_header(self.token.reveal()) or not fits_header(self.account_id or "none"):
            raise InvalidCredentials("no HTTP header can carry the token or the account id: sign in again")
        headers = {"Authorization": f"Bearer {self.token.reveal()}"}
        if self.account_id is not None:
            headers["chatgpt-account-id"] = self.account_id
        return headers

    def is_same_account_as(self, other: "Authorization") -> bool:
        """Whether a request that was authorized with `other` may be sent again with this one."""
        users = {self.user_id, other.user_id} - {None}
        is_key = self.is_api_key or other.is_api_key  # a key does not tell whose it is
        return not is_key and self.account_id == other.account_id and len(users) < 2

    @classmethod
    def of(cls, session: Session) -> "Authorization":
        """The authorization of a session. Raises NotSignedIn, with the reason if one is known."""
        credentials = session.credentials
        if credentials is None:
            raise NotSignedIn(session.failure.message if session.failure else "nobody is signed in: sign in first")
        if isinstance(credentials, ApiKey):
            return cls(credentials.key, None, session.generation, is_api_key=True)
        account = credentials.account
        return cls(credentials.access_token, account.account_id, session.generation, account.user_id)
