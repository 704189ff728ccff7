"""No secret gets into a log, and every event gets a line."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.logs import HIDDEN, configure, log_events, redact, redact_text
from authstate.adapters.testing import FakeAuthority, MemoryStore, make_jwt, make_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.secret import Secret

JWT = make_jwt(sub="somebody", email="person@example.com")
KEY = "sk-proj-abcDEF1234567890"
OPAQUE = "Qx7" * 20


@pytest.fixture
def lines() -> Iterator[Any]:
    """A function that configures the logs and returns where they go; everything is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def start(*arguments: Any, **options: Any) -> Any:
        stream = io.StringIO()
        configure(*arguments, stream=stream, **options)
        return stream

    yield start
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("secret", [JWT, JWT.rsplit(".", 1)[0], KEY, OPAQUE, "rt_abcdefgh"])
@pytest.mark.parametrize(
    "text", ["{}", "it said {}.", "Authorization: Bearer {}", "https://h/?x={}&y=1", '{{"a": "{}"}}']
)
def test_text_loses_its_secrets(secret: str, text: str) -> None:
    redacted = redact_text(text.format(secret))
    assert secret not in redacted
    assert HIDDEN in redacted


@pytest.mark.parametrize(
    "text",
    ["token=abc", "refresh_token=abc&x=1", '{"access_token": "abc"}', "{'apiKey': 'abc'}", "?code=abc&state=abc"],
)
def test_short_values_are_known_by_their_names(text: str) -> None:
    assert "abc" not in redact_text(text)


def test_prose_stays_readable() -> None:
    text = "your refresh token: it works only once (127.0.0.1:1455, /home/person/.codex/auth.json, status 401)"
    assert redact_text(text) == text


def test_values_lose_their_secrets() -> None:
    class Odd:
        def __repr__(self) -> Any:
            return f"Odd({JWT})"

    value = {
        "access_token": "short",
        "apiKey": "short",
        "Authorization": "short",
        "tokens": {"a": "short"},
        "refreshToken": True,
        "secret": Secret("short"),
        "list": [Secret("short"), JWT, {"id-token": "short"}],
        "bytes": KEY.encode(),
        "error": ValueError(JWT),
        "odd": Odd(),
        "count": 3,
        "path": "/home/person",
        JWT: "key",
    }
    redacted = redact(value)
    text = repr(redacted)
    assert "short" not in text and JWT not in text and KEY not in text
    assert (redacted["count"], redacted["path"], redacted["refreshToken"]) == (3, "/home/person", True)


@pytest.mark.timeout(20)
def test_a_long_text_takes_no_long_time() -> None:
    for part in ("a-", "token", '"', "eyJ", "sk-", "x.", "code="):
        assert redact_text(part * 50_000)


def test_what_holds_itself_ends() -> None:
    loop: list[object] = [JWT]
    loop.append(loop)
    assert JWT not in repr(redact(loop))


@given(st.text(), st.text())
def test_no_surroundings_show_a_jwt(before: Any, after: Any) -> None:
    signature = JWT.rsplit(".", 1)[1]
    payload = JWT.split(".")[1]
    redacted = redact_text(f"{before} {JWT} {after}")
    assert payload not in redacted
    assert signature not in redacted


@pytest.mark.parametrize("as_json", [True, False])
def test_one_line_an_event_and_no_secret_in_it(lines: Any, as_json: bool) -> None:
    stream = lines("info", as_json=as_json)
    logger = structlog.get_logger("test")
    logger.debug("not shown")
    logger.info("shown", access_token="abc-secret", text=f"Bearer {OPAQUE}", number=1)
    try:
        raise ValueError(f"bad token {JWT}")
    except ValueError:
        logger.exception("failed")
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    assert "abc-secret" not in written and OPAQUE not in written and JWT not in written
    assert "ValueError" in written and "timestamp" in written
    if as_json:
        assert json.loads(written.splitlines()[0])["access_token"] == HIDDEN


def test_other_libraries_are_redacted_too(lines: Any) -> None:
    lines("info")
    stream = lines("info")
    logging.getLogger("asyncio").error("lost %s", JWT)
    logging.getLogger("httpx").info("not shown")
    assert JWT not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_words_from_outside_do_not_reach_a_terminal_as_orders(lines: Any, as_json: bool) -> None:
    orders = "\x1b[2J\x07\x9b1m\r\u202e"
    stream = lines("info", as_json=as_json)
    structlog.get_logger("test").warning("told", error=f"it said{orders}", workspace=orders)
    try:
        raise ValueError(orders)
    except ValueError:
        structlog.get_logger("test").exception("failed")
        logging.getLogger("asyncio").exception("lost %s", orders)
    written = stream.getvalue()
    assert written.replace("\n", "").isprintable()
    assert "it said" in written and "ValueError: " in written


def test_standard_error_is_the_default(lines: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines()
    configure("info")
    structlog.get_logger("test").info("here")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "here" in captured.err


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="use one of debug"):
        configure("loud")


async def test_events_become_lines(lines: Any) -> None:
    stream = lines("info", as_json=True)
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        end = log_events(engine)
        await engine.refresh()
        authority.kill(RefreshDeadReason.EXPIRED)
        with pytest.raises(PermanentRefreshError):
            await engine.refresh()
        await engine.use_api_key(ApiKey.parse(KEY))
        await engine.log_out()
        end()
        await engine.use_api_key(ApiKey.parse(KEY))
    written = stream.getvalue()
    for secret in (KEY, "eyJ", *authority.sent):
        assert secret not in written
    assert "person@example.com" not in written
    seen = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in seen if line["event"] != "not_revoked"] == [
        "state_changed",
        "state_changed",
        "refresh_failed",
        "state_changed",
        "login_completed",
        "account_updated",
        "state_changed",
        "account_updated",
    ]
    assert seen[0]["workspace"] == "org-1"
    assert seen[1]["state"] == "refresh_dead"
    assert seen[2]["permanent"] is True and seen[2]["level"] == "error"
