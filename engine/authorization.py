"""Authorization: what a request needs to be authorized, immutable."""

import msgspec

from authstate.engine.credentials import ApiKey, Secret
from authstate.engine.errors import NotSignedIn
from authstate.engine.session import Session


class Authorization(msgspec.Struct, frozen=True):
    """What a request needs to be authorized. Keep it until the answer: `recover` wants it after a 401."""

    token: Secret
    account_id: str | None
    generation: int
    is_parents_answer: bool = False
    """The parent application gave this token in answer to a 401 for an earlier one: see `AuthEngine.recover`."""

    def headers(self) -> dict[str, str]:
        """The headers of an authorized request. They hold the token: do not log them."""
        headers = {"Authorization": f"Bearer {self.token.reveal()}"}
        if self.account_id is not None:
            headers["chatgpt-account-id"] = self.account_id
        return headers

    @classmethod
    def of(cls, session: Session) -> "Authorization":
        """The authorization that a session gives. Raises NotSignedIn, with the reason if one is known."""
        credentials = session.credentials
        if credentials is None:
            raise NotSignedIn(session.failure.message if session.failure else "nobody is signed in: sign in first")
        if isinstance(credentials, ApiKey):
            return cls(credentials.key, None, session.generation)
        return cls(credentials.access_token, credentials.account.account_id, session.generation)
