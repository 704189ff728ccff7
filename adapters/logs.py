"""Logs on standard error, with a processor that removes secrets.

Standard output belongs to the protocol; nothing here writes to it. structlog is imported by `configure`.
"""

import logging
import re
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, Protocol, TextIO, cast

from authstate.engine.model.events import AccountUpdated, Event, LoginCompleted, RefreshFailed, StateChanged, Warned
from authstate.engine.model.secret import Secret

HIDDEN: Final = "[redacted]"
LEVELS: Final = ("debug", "info", "warning", "error")

_DEEPEST = 8
_SECRET_KEY = re.compile(r"(token|apikey|secret|password|authorization|cookie|verifier|bearer|credential)s?$")
_NAMES = r"(?:[\w-]{0,30}(?:token|api[_-]?key|secret|password|verifier)|authorization|code|state)"
_PATTERNS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9_.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"(?i)([\"']{_NAMES}[\"']\s*:\s*)(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)\b({_NAMES}=)[^\s&\"',;)}}]+"), rf"\1{HIDDEN}"),
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"), HIDDEN),
    (re.compile(r"authstate_lease_[A-Za-z0-9_.-]{6,}"), HIDDEN),
    (re.compile(r"(?<![A-Za-z0-9])(?:sk|rt|ac|at|sess)[-_][A-Za-z0-9_-]{6,}"), HIDDEN),
    (re.compile(r"[A-Za-z0-9_+=-]{40,}"), HIDDEN),
)


class Subscribable(Protocol):
    """The part of an `AuthEngine` that is used here."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call the listener with every event. Returns a function that unsubscribes it."""
        ...


def redact_text(text: str) -> str:
    """Replace what looks like a secret: JWTs, API keys, bearer tokens, long opaque strings, and the values of
    `token=...` and `"token": "..."`.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: object, _depth: int = 0) -> Any:
    """Return a value without secrets. Anything but text, numbers and containers becomes its redacted `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(str(value))
    if _depth < _DEEPEST:
        if isinstance(value, Mapping):
            members = cast("Mapping[object, object]", value)
            return {redact_text(str(key)): _redact_member(str(key), item, _depth) for key, item in members.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [redact(item, _depth + 1) for item in cast("Collection[object]", value)]
    if isinstance(value, bytes | bytearray):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    return redact_text(str(value) if isinstance(value, BaseException) else repr(value))


def redact_event(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a log entry. This structlog processor runs after exceptions were formatted as text."""
    redacted: dict[str, Any] = redact(event)
    return redacted


def configure(level: str = "warning", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Configure structlog: one line per event, as `key=value` or JSON.

    Records of the standard library's logging from WARNING on are written to the same stream, redacted. asyncio and
    others report problems there.

    Args:
        level: the lowest level that is logged, one of `LEVELS`.
        as_json: write JSON objects instead of `key=value`.
        stream: where to write. By default, standard error.

    Raises:
        ValueError: the level is unknown.
    """
    import structlog

    if level not in LEVELS:
        raise ValueError(f"there is no log level {level!r}: use one of {', '.join(LEVELS)}")
    stream = sys.stderr if stream is None else stream
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
    renderers: list[Any] = [structlog.processors.JSONRenderer()] if as_json else [logfmt, _readable_line]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            redact_event,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_RedactingFormatter("level=%(levelname)s logger=%(name)s event=%(message)r"))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, _RedactingFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def log_events(engine: Subscribable) -> Callable[[], None]:
    """Log each event of the engine. Returns a function that stops it. Logs workspaces, but no emails."""
    import structlog

    logger = structlog.get_logger("authstate")

    def listen(event: Event) -> None:
        level, name, members = describe_event(event)
        getattr(logger, level)(name, **members)

    return engine.subscribe(listen)


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _readable(redact_text(super().format(record)))


def _readable_line(logger: object, method: str, line: str) -> str:
    return _readable(line)


def _readable(text: str) -> str:
    """Escape control characters, which a terminal would execute: messages of the issuer and claims are untrusted."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text
    )


def _redact_member(key: str, value: object, depth: int) -> Any:
    plain = key.lower().replace("_", "").replace("-", "")
    if _SECRET_KEY.search(plain) and value is not None and not isinstance(value, bool | int | float):
        return HIDDEN
    return redact(value, depth + 1)


def describe_event(event: Event) -> tuple[str, str, dict[str, Any]]:
    """Return the level, the name and the members of the log entry for an event. They hold no secret and no email."""
    if isinstance(event, StateChanged):
        account = event.current.account
        members = {
            "trigger": str(event.trigger),
            "previous": str(event.previous.state),
            "state": str(event.current.state),
            "generation": event.current.generation,
            "workspace": account.account_id if account else None,
        }
        if event.current.failure is not None:
            members["failure"] = event.current.failure.message
        return "info", "state_changed", members
    if isinstance(event, LoginCompleted):
        level = "info" if event.success else "warning"
        return level, "login_completed", {"login_id": event.login_id, "success": event.success, "error": event.error}
    if isinstance(event, AccountUpdated):
        return "info", "account_updated", {"auth_mode": _name(event.auth_mode), "plan_type": _name(event.plan_type)}
    if isinstance(event, RefreshFailed):
        members = {"permanent": event.permanent, "kind": type(event.error).__name__, "error": str(event.error)}
        return "error" if event.permanent else "warning", "refresh_failed", members
    assert isinstance(event, Warned)
    return "warning", event.code, {"message": event.message}


def _name(value: object) -> str | None:
    return None if value is None else str(value)
