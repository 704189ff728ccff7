"""Credentials as plain immutable data, and the account that their claims name.

Everything here is frozen, slotted and safe to share between tasks and threads. A new token is a new object. A token has
the type `Secret`, whose value only `reveal` returns.

Signatures are not checked. The tokens come from the issuer over TLS, from the store, or from a parent application that
this process already trusts. Only the backend decides what they authorize.
"""

import hmac
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeAlias, cast

import msgspec

from authstate.engine.model.errors import InvalidCredentials, strip_tracebacks

_AUTH_CLAIM = "https://api.openai.com/auth"
_PROFILE_CLAIM = "https://api.openai.com/profile"
_MAX_JWT_LENGTH = 256 * 1024  # characters
_MAX_ACCOUNT_ID_LENGTH = 1024  # characters
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_LATEST_TIME = 253_402_300_799.0  # the end of the year 9999, the last that datetime can show


class Secret:
    """A string that no log, repr, format or exception shows. Only `reveal()` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for a header, a request body or a store."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: store credentials through a CredentialStore")


class PlanType(StrEnum):
    """The plan of a ChatGPT account, as spelled on the wire: every name in the schemas of codex up to 0.171.0."""

    FREE = "free"
    GO = "go"
    PLUS = "plus"
    PRO = "pro"
    PROLITE = "prolite"
    PROMAX = "promax"
    TEAM = "team"
    SELF_SERVE_BUSINESS_PROLITE = "self_serve_business_prolite"
    SELF_SERVE_BUSINESS_USAGE_BASED = "self_serve_business_usage_based"
    BUSINESS = "business"
    ENT26 = "ent26"
    ENTERPRISE_CBP_AUTOMATION = "enterprise_cbp_automation"
    ENTERPRISE_CBP_USAGE_BASED = "enterprise_cbp_usage_based"
    ENTERPRISE = "enterprise"
    EDU = "edu"
    EDU_PLUS = "edu_plus"
    EDU_PRO = "edu_pro"
    SCI = "sci"
    SCI_PLUS = "sci_plus"
    UNKNOWN = "unknown"

    @classmethod
    def from_claim(cls, claim: object) -> "PlanType":
        """The plan that a claim names. Case does not matter, and an unknown name is `UNKNOWN`."""
        if not isinstance(claim, str):
            return cls.UNKNOWN
        name = claim.strip().lower()
        name = {"hc": "enterprise", "education": "edu"}.get(name, name)
        return cls(name) if name in cls._value2member_map_ else cls.UNKNOWN


class Account(msgspec.Struct, frozen=True):
    """The owner of the tokens, as far as their claims tell."""

    email: str | None = None
    plan_type: PlanType = PlanType.UNKNOWN
    account_id: str | None = None
    """The workspace: `chatgpt_account_id`."""
    user_id: str | None = None

    def is_same_as(self, other: "Account") -> bool:
        """Whether both are the same login: the same workspace and, if both name one, the same user."""
        if self.account_id != other.account_id:
            return False
        if self.user_id is not None and other.user_id is not None:
            return self.user_id == other.user_id
        return self.account_id is not None or self.email == other.email

    def __str__(self) -> str:
        name = self.email or "an account without an email"
        return f"{name} (workspace {self.account_id})" if self.account_id else name


class ApiKey(msgspec.Struct, frozen=True):
    """An API key, without the white space, quotes and byte order mark that may surround it."""

    key: Secret

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
            InvalidCredentials: the id token is not a JWT, or no header can carry the access token or the account id.
                (The access token may be opaque; then its expiry is not known.)
        """
        _ensure_header(access_token, "access token")
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
        _ensure_header(access_token, "access token")
        claims = read_jwt_claims(id_token, "id token") if id_token else read_jwt_claims(access_token, "access token")
        return cls(
            access_token=Secret(access_token),
            account=account_of(claims, account_id=account_id, plan_type=plan_type),
            id_token=Secret(id_token) if id_token else None,
            expires_at=expiry_of(access_token),
        )


Credentials: TypeAlias = ApiKey | ChatgptTokens | ExternalTokens


def fits_header(text: str, longest: int = _MAX_JWT_LENGTH) -> bool:
    """Whether a header can carry this: visible ASCII without white space, at most `longest` characters.

    Check it first: an HTTP client that refuses to send a header quotes it in its exception.
    """
    return 0 < len(text) <= longest and text.isascii() and text.isprintable() and " " not in text


def _ensure_header(text: str, name: str, longest: int = _MAX_JWT_LENGTH) -> None:
    if not fits_header(text, longest):
        raise InvalidCredentials(
            f"no HTTP header can carry the {name}: it has white space, a control character or a character that is not "
            f"ASCII, or more than {longest} characters"
        )


def read_jwt_claims(token: str, name: str) -> Mapping[str, Any]:
    """The claims of a JWT. Errors call it by `name`.

    Raises:
        InvalidCredentials: it is not a JWT, or its claims are not a JSON object.
    """
    if len(token) > _MAX_JWT_LENGTH:
        raise InvalidCredentials(f"the {name} is not a JWT: it is longer than {_MAX_JWT_LENGTH} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise InvalidCredentials(
            f"the {name} is not a JWT: it must have three parts with dots between them, none empty"
        )
    try:
        claims: object = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        raise InvalidCredentials(f"the {name} is not a JWT: its claims cannot be read") from None
    if not isinstance(claims, dict):
        raise InvalidCredentials(f"the {name} is not a JWT: its claims are not a JSON object")
    return cast("dict[str, Any]", claims)


def expiry_of(token: str) -> float | None:
    """The `exp` of a token in seconds since the epoch. None if the token is opaque or has no `exp`."""
    try:
        exp = read_jwt_claims(token, "access token").get("exp")
    except InvalidCredentials:
        return None
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not 0 < exp <= _LATEST_TIME:
        return None
    return float(exp)


def storable_time(seconds: float) -> float:
    """A time that every store can keep without loss: whole microseconds, between 1970 and the year 9999.

    So what is stored compares equal to what is in memory.
    """
    return round(min(max(seconds, 0.0), _LATEST_TIME), 6)


def account_of(claims: Mapping[str, Any], *, account_id: str | None = None, plan_type: str | None = None) -> Account:
    """The account that claims name. A claim of the wrong type counts as missing. The arguments take precedence.

    Raises:
        InvalidCredentials: no header can carry the account id.
    """
    auth = _mapping(claims.get(_AUTH_CLAIM))
    profile = _mapping(claims.get(_PROFILE_CLAIM))
    account_id = account_id or _text(auth.get("chatgpt_account_id"))
    if account_id is not None:
        _ensure_header(account_id, "account id", _MAX_ACCOUNT_ID_LENGTH)
    return Account(
        email=_text(claims.get("email")) or _text(profile.get("email")),
        plan_type=PlanType.from_claim(plan_type or auth.get("chatgpt_plan_type")),
        account_id=account_id,
        user_id=_text(auth.get("chatgpt_user_id")) or _text(auth.get("user_id")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
