"""Logs on standard error, with one processor that no secret gets past.

Standard output is the protocol's; nothing here writes to it. structlog is imported when the logs are configured.
"""

import logging
import re
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, Protocol, TextIO, cast

from authstate.engine.model.credentials import Secret
from authstate.engine.model.events import AccountUpdated, Event, LoginCompleted, RefreshFailed, StateChanged, Warned

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
    (re.compile(r"(?<![A-Za-z0-9])(?:sk|rt|ac|sess)[-_][A-Za-z0-9_-]{6,}"), HIDDEN),
    (re.compile(r"[A-Za-z0-9_+=-]{40,}"), HIDDEN),
)


class Subscribable(Protocol):
    """What is needed of an `AuthEngine`."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call the listener with every event; returns what ends it."""
        ...


def redact_text(text: str) -> str:
    """The text without anything that looks like a secret: JWTs, API keys, bearer tokens, long opaque strings, and the
    values of `token=...` and `"token": "..."`.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: object, _depth: int = 0) -> Any:
    """The value without secrets, as plain data: what is no text, number or container becomes its redacted `repr`."""
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
    """The structlog processor: the last one before the renderer, when exceptions are text already."""
    redacted: dict[str, Any] = redact(event)
    return redacted


def configure(level: str = "warning", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Log lines from this level on, one line an event, `key=value` or JSON.

    The standard library's logging is taken along from WARNING on, redacted too: asyncio and others report there.

    Args:
        level: one of `LEVELS`.
        as_json: a JSON object a line instead of `key=value`.
        stream: by default standard error.

    Raises:
        ValueError: there is no such level.
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
    """Write a line for each event of the engine. Returns what ends it. Emails are not logged, workspaces are."""
    import structlog

    logger = structlog.get_logger("authstate")

    def listen(event: Event) -> None:
        level, name, members = _line(event)
        getattr(logger, level)(name, **members)

    return engine.subscribe(listen)


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _readable(redact_text(super().format(record)))


def _readable_line(logger: object, method: str, line: str) -> str:
    return _readable(line)


def _readable(text: str) -> str:
    """The text with what a terminal would obey written as escapes: words of an issuer and claims get into logs."""
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


def _line(event: Event) -> tuple[str, str, dict[str, Any]]:
    """The level, the name and the members of an event's line."""
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
