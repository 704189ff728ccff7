"""Reads and writes the stored form of a login: the content of auth.json.

codex uses the same file, so this module reads what codex writes, and writes what codex can read:

    {"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": {...}, "last_refresh": "2026-11-22T22:10:11.123456Z"}
    {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-..."}
    {"OPENAI_API_KEY": null, "personal_access_token": "at-..."}

Without `auth_mode`, a personal access token counts first, then a key (`apikey`), then tokens (`chatgpt`). A personal
access token leaves no other login in the record, because no mode tells which one counts. Unknown members are kept byte
for byte, at the top level and inside `tokens`. Of the content, error messages contain only the value of `auth_mode`.

A file that a person edited may begin with a byte order mark, even that of UTF-16, which PowerShell writes. After a
power cut, a file may end in zero bytes. Both are read here, although codex refuses them. Files are written as plain
UTF-8. A refresh token that is empty, null or missing counts as none. It is written as an empty string, the only one of
these forms that codex reads.
"""

import codecs
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import msgspec

from authstate.adapters.stores.unmanaged_records import (
    MEMBERS,
    MODES,
    PERSONAL,
    PERSONAL_ACCESS_TOKEN,
    OtherLogin,
    find_in_members,
)
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken, storable_time
from authstate.engine.model.errors import InvalidCredentials, StoreUnreadable, strip_tracebacks

LARGEST = 4 * 1024 * 1024
"""The size of the largest file that is read, in bytes."""

_MODE, _KEY, _TOKENS, _LAST_REFRESH = "auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"
_KNOWN = frozenset((_MODE, _KEY, _TOKENS, _LAST_REFRESH, PERSONAL_ACCESS_TOKEN))
_APIKEY, _CHATGPT = "apikey", "chatgpt"
_LATEST = 253_402_300_799.0  # seconds since the epoch: the end of the year 9999
_LONGEST_MODE = 40  # characters of an unknown mode that a message shows

_TOKEN_NAMES = ("id_token", "access_token", "refresh_token", "account_id")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

_Members = dict[str, msgspec.Raw]
_Pairs = list[tuple[str, Any]]
_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True):
    """A decoded record."""

    credentials: Credentials | None = None
    """None if the record contains neither a key nor tokens."""


def is_json_object(data: bytes) -> bool:
    """Return whether the data is a complete JSON object. An empty or half-written file is not."""
    return _members_or_none(data) is not None


def looks_like_login(data: bytes) -> bool:
    """Return whether the data is a login record, the beginning of one, or empty."""
    if (members := _members_or_none(data)) is None:
        return not data.strip() or data.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{")
    return not members or not (_KNOWN | MEMBERS.keys()).isdisjoint(members)


@strip_tracebacks
def decode(data: bytes, place: str) -> Record:
    """Decode a record.

    Args:
        data: the content of the file.
        place: where it was read, for the message.

    Raises:
        StoreUnreadable: the data is not a record, or its mode is unknown. The message names the place and the fault.
    """
    return _Reader(place).record(data)


def encode(credentials: Credentials, over: bytes | None, *, indent: int = 2) -> bytes:
    """Encode a record.

    Args:
        credentials: an API key, a personal access token, or the tokens of a managed login.
        over: the record that is replaced. Its unknown members are kept, unless it is corrupt.
        indent: spaces for each level; a negative number for the compact form.

    Raises:
        TypeError: the credentials are external tokens, which are never stored.
    """
    members = (over is not None and _members_or_none(over)) or {}
    known: dict[str, Any]
    if isinstance(credentials, ApiKey):
        known = {_MODE: _APIKEY, _KEY: credentials.key.reveal()}
    elif isinstance(credentials, PersonalAccessToken):
        known = {_KEY: None, PERSONAL_ACCESS_TOKEN: credentials.token.reveal()}
        members = {name: value for name, value in members.items() if name not in MEMBERS}
    elif isinstance(credentials, ChatgptTokens):
        kept = members if over is not None and _is_same_login(over, credentials) else {}
        known = {
            _MODE: _CHATGPT,
            _KEY: kept.get(_KEY),
            _TOKENS: _tokens(credentials, members.get(_TOKENS)),
        }
        if PERSONAL_ACCESS_TOKEN in kept:  # the mode says that it does not count
            known[PERSONAL_ACCESS_TOKEN] = kept[PERSONAL_ACCESS_TOKEN]
        if credentials.last_refresh is not None:
            known[_LAST_REFRESH] = _format_time(credentials.last_refresh)
    else:
        raise TypeError("external tokens live in memory only: they are never stored")
    unknown = {name: value for name, value in members.items() if name not in _KNOWN}
    return msgspec.json.format(msgspec.json.encode(known | unknown), indent=indent)


def _tokens(credentials: ChatgptTokens, over: msgspec.Raw | None) -> dict[str, Any]:
    known: dict[str, Any] = {
        "id_token": credentials.id_token.reveal(),
        "access_token": credentials.access_token.reveal(),
        "refresh_token": credentials.refresh_token.reveal(),
        "account_id": credentials.account.account_id,
    }
    members = (over is not None and _members_or_none(bytes(over))) or {}
    return known | {name: value for name, value in members.items() if name not in known}


def _is_same_login(over: bytes, credentials: ChatgptTokens) -> bool:
    """Return whether the API key beside the stored tokens, which older codex versions write, belongs to this login."""
    try:
        stored = decode(over, "").credentials
    except StoreUnreadable:
        return False
    return isinstance(stored, ChatgptTokens) and stored.account.is_same_as(credentials.account)


def _members_or_none(data: bytes) -> _Members | None:
    try:
        data = _as_utf8(data)
        data.decode()
        return msgspec.json.decode(data, type=_Members)
    except (ValueError, RecursionError):
        return None


def _as_utf8(data: bytes) -> bytes:
    """Return the text as plain UTF-8, without a byte order mark and the zero bytes that a power cut leaves at the end.

    Raises:
        UnicodeDecodeError: the text is UTF-16, and truncated or damaged.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            data = data[len(mark) :]
            return data.rstrip(b"\0") if mark == codecs.BOM_UTF8 else data.decode(encoding).rstrip("\0").encode()
    return data.rstrip(b"\0")


def _conflicting_member(data: bytes) -> str | None:
    """Return a known member that occurs twice with different values: readers disagree on which one counts."""
    try:
        top: _Pairs = json.loads(data, object_pairs_hook=list, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    tokens = [value for name, value in top if name == _TOKENS and isinstance(value, list)]
    return _conflicting_duplicate(top, sorted(_KNOWN)) or next(
        (f"{_TOKENS}.{name}" for pairs in tokens if (name := _conflicting_duplicate(pairs, _TOKEN_NAMES))), None
    )


def _conflicting_duplicate(pairs: _Pairs, names: Iterable[str]) -> str | None:
    for name in names:
        values = [pair[1] for pair in pairs if isinstance(pair, tuple) and pair[0] == name]
        if any(value != values[0] for value in values):
            return name
    return None


def _format_time(seconds: float) -> str:
    instant = datetime.fromtimestamp(storable_time(seconds), UTC)
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")


class _Reader:
    """Reads one record. Its errors name the place of the record."""

    def __init__(self, place: str) -> None:
        self._place = place

    def record(self, data: bytes) -> Record:
        members = self._top(data)
        mode = self._member(members, _MODE, str | None)
        key = self._member(members, _KEY, str | None)
        tokens = self._member(members, _TOKENS, _Members | None)
        other = find_in_members(members) if mode is None else MODES.get(mode)
        if other is PERSONAL:
            return Record(self._personal(self._member(members, PERSONAL_ACCESS_TOKEN, str | None)))
        if other is not None:
            self._fail_unmanaged(other)
        if mode is None:
            mode = _APIKEY if key and key.strip() else _CHATGPT if tokens is not None else None
        if mode is None:
            if members and _KNOWN.isdisjoint(members):
                self._fail_foreign()
            return Record()
        if mode == _APIKEY:
            return Record(self._api_key(key))
        if mode == _CHATGPT:
            return Record(self._chatgpt(tokens, self._member(members, _LAST_REFRESH, str | None)))
        return self._fail_unknown_mode(mode)

    def _top(self, data: bytes) -> _Members:
        if len(data) > LARGEST:
            self._fail(f"it is larger than {LARGEST} bytes")
        try:
            data = _as_utf8(data)
            if not data.strip():
                self._fail("it is empty")
            if b"\0" in data:
                self._fail("it contains zero bytes, like UTF-16 text: save it as UTF-8")
            data.decode()
            members = msgspec.json.decode(data, type=_Members)
        except UnicodeDecodeError as error:
            self._fail(f"it is not UTF-8 text (byte {error.start})")
        except RecursionError:
            self._fail("it is nested too deeply")
        except msgspec.ValidationError:
            self._fail("it is not a JSON object")
        except msgspec.DecodeError as error:
            self._fail(f"it is not valid JSON ({error})")
        if name := _conflicting_member(data):
            self._fail(f"it has the member {name} twice, with different values")
        return members

    def _member(self, members: _Members, name: str, kind: Any, where: str = "") -> Any:
        if name not in members:
            return None
        try:
            return msgspec.json.decode(members[name], type=kind)
        except (msgspec.DecodeError, RecursionError):
            self._fail(f"the member {where}{name} has the wrong type")

    def _api_key(self, key: str | None) -> ApiKey:
        if key is None:
            self._fail(f"auth_mode is {_APIKEY}, but there is no {_KEY}")
        try:
            return ApiKey.parse(key)
        except InvalidCredentials as error:
            self._fail(f"in {_KEY}, {error}")

    def _personal(self, token: str | None) -> PersonalAccessToken:
        try:
            return PersonalAccessToken.read(token or "")
        except InvalidCredentials as error:
            self._fail(f"in {PERSONAL_ACCESS_TOKEN}, {error}")

    def _chatgpt(self, tokens: _Members | None, last_refresh: str | None) -> ChatgptTokens:
        if tokens is None:
            self._fail(f"auth_mode is {_CHATGPT}, but there are no tokens")
        try:
            return ChatgptTokens.read(
                id_token=self._token(tokens, "id_token"),
                access_token=self._token(tokens, "access_token"),
                refresh_token=self._text(tokens, "refresh_token") or "",
                account_id=self._text(tokens, "account_id"),
                last_refresh=None if last_refresh is None else self._seconds(last_refresh),
            )
        except InvalidCredentials as error:
            self._fail(f"in tokens, {error}")

    def _token(self, tokens: _Members, name: str) -> str:
        token = self._text(tokens, name)
        if token is None:
            self._fail(f"the member tokens.{name} is missing or empty")
        return token

    def _text(self, tokens: _Members, name: str) -> str | None:
        """Return a member of `tokens`, None if it is missing, null or blank."""
        text: str | None = self._member(tokens, name, str | None, "tokens.")
        return text if text and text.strip() else None

    def _seconds(self, text: str) -> float:
        """Return a time stamp as seconds since the epoch. Digits beyond microseconds are dropped; no zone means UTC."""
        try:
            instant = datetime.fromisoformat(text)
            seconds = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            seconds = -1.0
        if not 0 <= seconds <= _LATEST:
            self._fail(f"the member {_LAST_REFRESH} is not a time stamp")
        return seconds

    def _fail_foreign(self) -> NoReturn:
        """Refuse a file of another program. Other programs use the name auth.json as well."""
        raise StoreUnreadable(
            f"{self._place} belongs to another program: it has no member of a login. Move it away, or set CODEX_HOME "
            "to another folder; a sign-in adds to it"
        )

    def _fail_unmanaged(self, other: OtherLogin) -> NoReturn:
        """Refuse a codex login that authstate does not manage. It is a login, so only a person may replace it."""
        error = StoreUnreadable(
            f"{self._place} holds {other}, which authstate does not manage: codex uses it by itself. Use codex without "
            "authstate, or sign in with `authstate login` to replace it"
        )
        error.other_login = other.kind
        raise error

    def _fail_unknown_mode(self, mode: str) -> NoReturn:
        shown = mode if len(mode) <= _LONGEST_MODE else mode[:_LONGEST_MODE] + "…"
        raise StoreUnreadable(
            f"{self._place} holds credentials of an unknown kind (auth_mode {shown!r}): "
            "use the program that wrote them, or sign in again to replace them"
        )

    def _fail(self, fault: str) -> NoReturn:
        raise StoreUnreadable(
            f"{self._place} cannot be read: {fault}. Sign in again to replace it, or repair it"
        ) from None
