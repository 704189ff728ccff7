"""Credentials as plain immutable data, and the account that is read from their claims.

Everything here is frozen, slotted and safe to share between tasks and threads. Nothing here changes anything: a new
token is a new object. A token travels as a `Secret`, which shows itself to nobody who does not ask by name.

Signatures are not checked. The tokens come from the issuer over TLS, from the store, or from a parent that this process
trusts already, and only the backend decides what they are good for.
"""

import hmac
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeAlias, cast

import msgspec

from authstate.engine.model.errors import InvalidCredentials, fresh_errors

_AUTH_CLAIM = "https://api.openai.com/auth"
_PROFILE_CLAIM = "https://api.openai.com/profile"
_LONGEST_JWT = 256 * 1024  # characters
_LONGEST_ACCOUNT_ID = 1024  # characters
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_LATEST_INSTANT = 253_402_300_799.0  # the end of the year 9999: what a calendar can still show


class Secret:
    """A string that no log, repr, format or exception shows. `reveal()` is the one way to read it."""

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
    """The plan of a ChatGPT account, as the wire spells it: every name in the schemas of codex up to 0.171.0."""

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
        """The plan a claim names: case does not matter, and what is not known is `UNKNOWN`."""
        if not isinstance(claim, str):
            return cls.UNKNOWN
        name = claim.strip().lower()
        name = {"hc": "enterprise", "education": "edu"}.get(name, name)
        return cls(name) if name in cls._value2member_map_ else cls.UNKNOWN


class Account(msgspec.Struct, frozen=True):
    """Who the tokens belong to, as far as their claims tell."""

    email: str | None = None
    plan_type: PlanType = PlanType.UNKNOWN
    account_id: str | None = None
    """The workspace: `chatgpt_account_id`."""
    user_id: str | None = None

    def is_same_as(self, other: "Account") -> bool:
        """Whether both are one login: the same workspace and, where both name one, the same user."""
        if self.account_id != other.account_id:
            return False
        if self.user_id is not None and other.user_id is not None:
            return self.user_id == other.user_id
        return self.account_id is not None or self.email == other.email

    def __str__(self) -> str:
        name = self.email or "an account without an email"
        return f"{name} (workspace {self.account_id})" if self.account_id else name


class ApiKey(msgspec.Struct, frozen=True):
    """An API key. White space, quotes and a byte order mark around it are not part of it."""

    key: Secret

    @classmethod
    @fresh_errors
    def parse(cls, text: str) -> "ApiKey":
        """Read a key that a person or a program gave.

        Pairs of quotes around it, a byte order mark, and the `NAME=` of a pasted `export OPENAI_API_KEY=...` are left
        out, where NAME ends in KEY or TOKEN.

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
                "the API key is too long or has characters that no API key has: copy it again, whole and alone"
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
    """Empty where there is none, as in a login that a CI job was given: see `can_refresh`."""
    account: Account
    expires_at: float | None = None
    """Seconds since the epoch: the access token's `exp`, None when it names none."""
    last_refresh: float | None = None
    """Seconds since the epoch: when the issuer gave them."""

    @classmethod
    @fresh_errors
    def read(
        cls,
        *,
        id_token: str,
        access_token: str,
        refresh_token: str,
        account_id: str | None = None,
        last_refresh: float | None = None,
    ) -> "ChatgptTokens":
        """Build from the three tokens; `account_id` wins over the claims of the id token.

        Args:
            refresh_token: blank means that there is none.

        Raises:
            InvalidCredentials: the id token is no JWT, or the access token or the account id fits in no header. (The
                access token may be opaque: then it has no known expiry.)
        """
        _ensure_header(access_token, "access token")
        return cls(
            id_token=Secret(id_token),
            access_token=Secret(access_token),
            refresh_token=Secret(refresh_token if refresh_token.strip() else ""),
            account=account_of(read_claims(id_token, "id token"), account_id=account_id),
            expires_at=expiry_of(access_token),
            last_refresh=None if last_refresh is None else instant_of(last_refresh),
        )

    @property
    def can_refresh(self) -> bool:
        """Whether there is a refresh token. Without one, the access token is used until it expires."""
        return bool(self.refresh_token)

    @property
    def looked_expired_at_once(self) -> bool:
        """Whether the access token had expired when it was given, by the clock of the machine that got it."""
        issued, expires = self.last_refresh, self.expires_at
        return issued is None or (expires is not None and expires <= issued)

    def is_same_material_as(self, other: "ChatgptTokens") -> bool:
        """Whether both hold the same tokens, whatever else they say."""
        return self.refresh_token == other.refresh_token and self.access_token == other.access_token


class ExternalTokens(msgspec.Struct, frozen=True):
    """Tokens that a parent application passed in. They live in memory only and are never stored."""

    access_token: Secret
    account: Account
    id_token: Secret | None = None
    expires_at: float | None = None

    @classmethod
    @fresh_errors
    def read(
        cls,
        *,
        access_token: str,
        id_token: str | None = None,
        account_id: str | None = None,
        plan_type: str | None = None,
    ) -> "ExternalTokens":
        """Build from what a parent sent, in either dialect of the account API.

        With an id token, identity comes from it; without one, from the access token's claims. `account_id` and
        `plan_type` win over both.

        Raises:
            InvalidCredentials: the token that must be read is no JWT, no access token was given, or the access token or
                the account id fits in no header.
        """
        if not access_token.strip():
            raise InvalidCredentials("the access token is empty")
        _ensure_header(access_token, "access token")
        claims = read_claims(id_token, "id token") if id_token else read_claims(access_token, "access token")
        return cls(
            access_token=Secret(access_token),
            account=account_of(claims, account_id=account_id, plan_type=plan_type),
            id_token=Secret(id_token) if id_token else None,
            expires_at=expiry_of(access_token),
        )


Credentials: TypeAlias = ApiKey | ChatgptTokens | ExternalTokens


def fits_header(text: str, longest: int = _LONGEST_JWT) -> bool:
    """Whether a header can carry this: visible ASCII without white space, at most `longest` characters.

    What an HTTP client refuses to send, it quotes in its exception.
    """
    return 0 < len(text) <= longest and text.isascii() and text.isprintable() and " " not in text


def _ensure_header(text: str, name: str, longest: int = _LONGEST_JWT) -> None:
    if not fits_header(text, longest):
        raise InvalidCredentials(
            f"the {name} fits in no HTTP header: it has white space, a control character or a character that is not "
            f"ASCII, or more than {longest} characters"
        )


def read_claims(token: str, name: str) -> Mapping[str, Any]:
    """The claims of a JWT. `name` is what an error calls it.

    Raises:
        InvalidCredentials: it is no JWT, or its claims are no JSON object.
    """
    if len(token) > _LONGEST_JWT:
        raise InvalidCredentials(f"the {name} is no JWT: it is longer than {_LONGEST_JWT} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise InvalidCredentials(f"the {name} is no JWT: it must have three parts with a dot between them, none empty")
    try:
        claims: object = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        raise InvalidCredentials(f"the {name} is no JWT: its claims cannot be read") from None
    if not isinstance(claims, dict):
        raise InvalidCredentials(f"the {name} is no JWT: its claims are no JSON object")
    return cast("dict[str, Any]", claims)


def expiry_of(token: str) -> float | None:
    """The `exp` of a token in seconds since the epoch; None for a token that is opaque or names none."""
    try:
        exp = read_claims(token, "access token").get("exp")
    except InvalidCredentials:
        return None
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not 0 < exp <= _LATEST_INSTANT:
        return None
    return float(exp)


def instant_of(seconds: float) -> float:
    """A time of the clock as every store can keep it: whole microseconds, between 1970 and the year 9999.

    Whoever compares what is stored with what is in memory must find the same.
    """
    return round(min(max(seconds, 0.0), _LATEST_INSTANT), 6)


def account_of(claims: Mapping[str, Any], *, account_id: str | None = None, plan_type: str | None = None) -> Account:
    """The account that claims name. A claim of the wrong type counts as missing; the arguments win over the claims.

    Raises:
        InvalidCredentials: the account id fits in no header.
    """
    auth = _mapping(claims.get(_AUTH_CLAIM))
    profile = _mapping(claims.get(_PROFILE_CLAIM))
    account_id = account_id or _text(auth.get("chatgpt_account_id"))
    if account_id is not None:
        _ensure_header(account_id, "account id", _LONGEST_ACCOUNT_ID)
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
