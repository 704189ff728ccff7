"""Which tokens a sandbox has issued, and for which logins. Shows their fingerprints only."""

import time
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.secret import Secret


class TokenKind(StrEnum):
    """What a token is."""

    ACCESS = "accessToken"
    REFRESH = "refreshToken"
    PERSONAL = "personalAccessToken"
    API_KEY = "apiKey"


class Login(msgspec.Struct, frozen=True):
    """One sign-in of an account."""

    id: str
    account: str
    at: float
    """Seconds since the epoch."""


class IssuedToken(msgspec.Struct, frozen=True, rename="camel"):
    """A token, without the token."""

    fingerprint: str
    """32 hexadecimal digits of its SHA-256, as in `auth.json.authstate.claims`."""
    kind: TokenKind
    login: str
    account: str
    issued_at: float
    expires_at: float | None
    """None: it has no end. A refresh token has none."""


def fingerprint(token: str) -> str | None:
    """Return the fingerprint of a token that a request carried. None if it carried none."""
    return fingerprint_of(Secret(token)) if token else None


class IssuedTokens:
    """Every token and login since the start."""

    def __init__(self) -> None:
        self.logins: dict[str, Login] = {}
        self._tokens: dict[str, IssuedToken] = {}
        self._revoked: set[str] = set()
        self._last_login = 0

    def new_login(self, account: str) -> str:
        """Note that an account signed in, and return the id of the login."""
        self._last_login += 1
        name = f"login-{self._last_login}"
        self.logins[name] = Login(name, account, time.time())
        return name

    def add(self, token: str, kind: TokenKind, login: dict[str, Any], expires_at: float | None) -> None:
        """Note a new token of a login."""
        named = fingerprint_of(Secret(token))
        self._tokens[token] = IssuedToken(named, kind, login["login"], login["name"], time.time(), expires_at)

    def tokens(self) -> Iterable[str]:
        """The tokens themselves, the oldest first."""
        return self._tokens

    def view(self, token: str) -> IssuedToken | None:
        """Return what may be shown of a token. None if it was not issued here."""
        return self._tokens.get(token)

    def note_revoked(self, token: str) -> None:
        """Note that an access token was revoked, not expired."""
        self._revoked.add(token)

    def is_revoked(self, token: str) -> bool:
        """Whether that was noted."""
        return token in self._revoked

    def clear(self) -> None:
        """Forget all, and number logins from the start again."""
        self._last_login = 0
        self.logins.clear()
        self._tokens.clear()
        self._revoked.clear()
