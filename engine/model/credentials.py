"""Credentials as plain immutable data, and the account that their claims name.

Everything here is frozen, slotted and safe to share between tasks and threads. A new token is a new object. A token has
the type `Secret`, whose value only `reveal` returns.

Signatures are not checked. The tokens come from the issuer over TLS, from the store, or from a parent application that
this process already trusts. Only the backend decides what they authorize.
"""

from typing import TypeAlias

import msgspec

from authstate.engine.model.account import Account, account_of
from authstate.engine.model.arguments import wrong_type
from authstate.engine.model.errors import InvalidCredentials, strip_tracebacks
from authstate.engine.model.jwt_claims import LATEST_TIME, expiry_of, read_jwt_claims
from authstate.engine.model.secret import Secret, ensure_header, ensure_unicode, fits_header

_PERSONAL = "at-"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}


class ApiKey(msgspec.Struct, frozen=True):
    """An API key, without the white space, quotes and byte order mark that may surround it."""

    key: Secret

    def __post_init__(self) -> None:
        _ensure_secret(self.key, "ApiKey.parse")

    @classmethod
    @strip_tracebacks
    def parse(cls, text: str) -> "ApiKey":
        """Read a key that a person or a program gave.

        Quotes around it, a byte order mark, and the `NAME=` of a pasted `export OPENAI_API_KEY=...` are removed. NAME
        must end in KEY or TOKEN.

        Raises:
            InvalidCredentials: the text is blank, or has white space or control characters inside.
        """
        key = _unquoted(text.strip().removeprefix("\ufeff"))
        name, _, value = key.partition("=")
        words = name.replace("$env:", "export ").split()
        is_name = words[:-1] in ([], ["export"], ["set"]) and words[-1].endswith(("KEY", "TOKEN")) if words else False
        if is_name and value[:1] not in ("", "="):
            key = _unquoted(value.strip().removesuffix(";"))
        if not key:
            raise InvalidCredentials("the API key is empty: give the key that the API keys page shows")
        if not fits_header(key):
            raise InvalidCredentials(
                "the API key is too long or has characters that no API key has: copy only the key, and all of it"
            )
        return cls(Secret(key))


class PersonalAccessToken(msgspec.Struct, frozen=True):
    """A personal access token of a ChatGPT account. It is static like an API key, but has an owner and a workspace.

    Nothing refreshes it. The token does not tell whose it is: the issuer does, when it is asked.
    """

    token: Secret
    account: Account | None = None
    """Its owner. None until the issuer was asked; it is not stored."""

    def __post_init__(self) -> None:
        _ensure_secret(self.token, "PersonalAccessToken.parse")

    @classmethod
    @strip_tracebacks
    def parse(cls, text: str) -> "PersonalAccessToken":
        """Read a token that a person or a program gave. Quotes and a byte order mark around it are removed.

        Raises:
            InvalidCredentials: the text is blank, does not begin with `at-`, or has white space or control characters
                inside.
        """
        token = _unquoted(text.strip().removeprefix("\ufeff"))
        if token and not token.startswith(_PERSONAL):
            raise InvalidCredentials(
                f"this is not a personal access token, which begins with {_PERSONAL}: use --with-api-key for an API "
                "key, and `codex login --with-access-token` for the token of an agent identity"
            )
        return cls.read(token)

    @classmethod
    @strip_tracebacks
    def read(cls, token: str) -> "PersonalAccessToken":
        """Build from a stored token, whatever it begins with: codex sends it as it is.

        Raises:
            InvalidCredentials: it is blank, or no header can carry it.
        """
        token = token.strip()
        if not token:
            raise InvalidCredentials("the personal access token is empty: create one, and give all of it")
        ensure_header(token, "personal access token")
        return cls(Secret(token))


def _ensure_secret(value: object, reader: str) -> None:
    """Refuse plain text in the place of a Secret: it would be shown wherever the credentials are."""
    if not isinstance(value, Secret):
        raise TypeError(f"a token or key is a Secret here, not {type(value).__name__}: use {reader}, which takes text")


def _unquoted(text: str) -> str:
    """The text without the white space and the pairs of quotes around it."""
    text = text.strip()
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


class ChatgptTokens(msgspec.Struct, frozen=True):
    """The tokens of a ChatGPT login that this machine manages."""

    id_token: Secret
    access_token: Secret
    refresh_token: Secret
    """Empty if there is none, as in a login for a CI job. See `can_refresh`."""
    account: Account
    expires_at: float | None = None
    """Seconds since the epoch: the `exp` of the access token, None if it has none."""
    last_refresh: float | None = None
    """Seconds since the epoch: when the issuer gave them."""

    def __post_init__(self) -> None:
        for token in (self.id_token, self.access_token, self.refresh_token):
            _ensure_secret(token, "ChatgptTokens.read")

    @classmethod
    @strip_tracebacks
    def read(
        cls,
        *,
        id_token: str,
        access_token: str,
        refresh_token: str,
        account_id: str | None = None,
        last_refresh: float | None = None,
    ) -> "ChatgptTokens":
        """Build from the three tokens. `account_id` takes precedence over the claims of the id token.

        Args:
            refresh_token: blank means that there is none.

        Raises:
            InvalidCredentials: the id token is not a JWT, a token is no valid text, or no header can carry the access
                token or the account id. (The access token may be opaque; then its expiry is not known.)
        """
        ensure_header(access_token, "access token")
        ensure_unicode(id_token, "id token")
        ensure_unicode(refresh_token, "refresh token")
        return cls(
            id_token=Secret(id_token),
            access_token=Secret(access_token),
            refresh_token=Secret(refresh_token if refresh_token.strip() else ""),
            account=account_of(read_jwt_claims(id_token, "id token"), account_id=account_id),
            expires_at=expiry_of(access_token),
            last_refresh=None if last_refresh is None else storable_time(last_refresh),
        )

    @property
    def can_refresh(self) -> bool:
        """Whether there is a refresh token. Without one, the access token is used until it expires."""
        return bool(self.refresh_token)

    @property
    def looked_expired_at_once(self) -> bool:
        """Whether the access token had already expired when it came, by the clock of the machine that received it."""
        issued, expires = self.last_refresh, self.expires_at
        return issued is None or (expires is not None and expires <= issued)

    def is_same_material_as(self, other: "ChatgptTokens") -> bool:
        """Whether both hold the same access and refresh token, whatever else they say."""
        return self.refresh_token == other.refresh_token and self.access_token == other.access_token


class ExternalTokens(msgspec.Struct, frozen=True):
    """Tokens that a parent application passed in. They are kept in memory only and never stored."""

    access_token: Secret
    account: Account
    id_token: Secret | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        for token in (self.access_token, self.id_token or self.access_token):
            _ensure_secret(token, "ExternalTokens.read")

    @classmethod
    @strip_tracebacks
    def read(
        cls,
        *,
        access_token: str,
        id_token: str | None = None,
        account_id: str | None = None,
        plan_type: str | None = None,
    ) -> "ExternalTokens":
        """Build from what a parent sent, in either dialect of the account API.

        The account comes from the claims of the id token, or of the access token if there is no id token. `account_id`
        and `plan_type` take precedence over both.

        Raises:
            InvalidCredentials: the token with the claims is not a JWT, the access token is empty, or no header can
                carry the access token or the account id.
        """
        if not access_token.strip():
            raise InvalidCredentials("the access token is empty")
        ensure_header(access_token, "access token")
        ensure_unicode(id_token or "", "id token")
        claims = read_jwt_claims(id_token, "id token") if id_token else read_jwt_claims(access_token, "access token")
        return cls(
            access_token=Secret(access_token),
            account=account_of(claims, account_id=account_id, plan_type=plan_type),
            id_token=Secret(id_token) if id_token else None,
            expires_at=expiry_of(access_token),
        )


Credentials: TypeAlias = ApiKey | PersonalAccessToken | ChatgptTokens | ExternalTokens
StaticCredentials: TypeAlias = ApiKey | PersonalAccessToken
"""What is never refreshed. Both are in the state `api_key`."""


def read_static_credentials(given: StaticCredentials | str) -> StaticCredentials:
    """Return an API key or a personal access token. Text is read: it is a token if it begins with `at-`.

    Raises:
        InvalidCredentials: the text is neither.
        TypeError: it is something else.
    """
    if isinstance(given, str):
        return PersonalAccessToken.parse(given) if _unquoted(given).startswith(_PERSONAL) else ApiKey.parse(given)
    if type(given) not in (ApiKey, PersonalAccessToken):
        raise wrong_type(given, "key", "an API key as text, an ApiKey or a PersonalAccessToken")
    return given


def storable_time(seconds: float) -> float:
    """A time that every store can keep without loss: whole microseconds, between 1970 and the year 9999.

    So what is stored compares equal to what is in memory.
    """
    return round(min(max(seconds, 0.0), LATEST_TIME), 6)
