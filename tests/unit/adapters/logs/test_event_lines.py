"""Each event of an engine is a line, and a program that configures nothing sees none of them."""

import asyncio
import gc
import io
import json
import logging
import re
from typing import get_args
from weakref import ref

import pytest
import structlog
from unit.adapters.logs.conftest import Captured, unconfigured

from authstate.adapters.logs.event_lines import describe_event, fingerprint_of_token, log_event, log_events
from authstate.adapters.logs.stderr_lines import configure_logs
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import AuthError, IssuerUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.events import (
    AccountUpdated,
    Event,
    EventsMissed,
    LoginCompleted,
    RefreshEnded,
    RefreshFailed,
    RefreshOutcome,
    RefreshReason,
    RefreshRetried,
    RefreshStarted,
    StateChanged,
    TokenExpired,
    TokenExpiring,
    Warned,
)
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Session
from authstate.engine.model.states import Trigger
from authstate.engine.pool import EnginePool
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

KEY = "sk-proj-abcDEF1234567890"


async def history(engine: AuthEngine, authority: FakeAuthority) -> None:
    """A refresh, a dead refresh token, another login and a logout."""
    await engine.refresh()
    authority.kill(RefreshDeadReason.EXPIRED)
    with pytest.raises(PermanentRefreshError):
        await engine.refresh()
    await engine.use_api_key(ApiKey.parse(KEY))
    await engine.log_out()


async def test_events_become_lines() -> None:
    stream = io.StringIO()
    configure_logs("info", as_json=True, stream=stream)
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        log_events(engine)
        end = log_events(engine)
        await history(engine, authority)
        end()
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
    assert seen[1]["state"] == "refresh_dead" and seen[1]["reason"] == "expired"
    assert seen[2]["permanent"] is True and seen[2]["level"] == "error"


async def test_a_transition_says_all_that_a_support_engineer_asks_for(captured: Captured) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        log_events(engine)
        await engine.refresh()
        after = fingerprint_of_token((await engine.authorization()).token)
    [record] = [one for one in captured.records if one.getMessage().startswith("state_changed")]
    assert record.name == "authstate.engine" and record.levelno == logging.INFO
    assert record.getMessage() == (
        "state_changed trigger=tokens_refreshed previous=chatgpt state=chatgpt generation=2 workspace=org-1 "
        f"fingerprint={after}"
    )
    assert vars(record)["authstate"]["generation"] == 2


async def test_without_a_configuration_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    with unconfigured():
        async with AuthEngine(MemoryStore(tokens), authority) as engine:
            log_events(engine)
            await history(engine, authority)
    assert capfd.readouterr() == ("", "")


async def test_other_loggers_and_structlog_stay_as_they_are(captured: Captured) -> None:
    def state() -> object:
        loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("asyncio", "httpx", "transitions"))]
        return (
            [(one.name, one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers],
            logging.getLoggerClass(),
            logging.lastResort,
            structlog.is_configured(),
            {name: list(value) if isinstance(value, list) else value for name, value in structlog.get_config().items()},
        )

    before = state()
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    logging.getLogger("somebody").info("token=%s", "mine")
    undo = configure_logs("debug", stream=io.StringIO())
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        log_events(engine)
        await history(engine, authority)
    logging.getLogger("somebody").info("token=%s", "mine")
    undo()
    assert state() == before
    theirs = [one.getMessage() for one in captured.records if one.name == "somebody"]
    assert theirs == ["token=mine", "token=mine"]


async def test_nothing_but_authstate_speaks_of_a_transition(captured: Captured) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        log_events(engine)
        await history(engine, authority)
    assert {one.name for one in captured.records} - {"asyncio"} == {"authstate.engine"}


def test_the_machines_of_an_embedder_still_speak(captured: Captured) -> None:
    from transitions import Machine

    class Door:
        pass

    Machine(model := Door(), states=["open", "closed"], initial="open", name="door")
    model.to_closed()  # type: ignore[attr-defined]
    assert "door: " in captured.text


async def test_a_pool_names_the_account(captured: Captured) -> None:
    tokens = make_tokens()
    async with EnginePool[str](lambda name: AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))) as pool:
        pool.subscribe(log_event)
        async with pool.engine("ada"):
            pass
    [record] = [one for one in captured.records if one.name == "authstate.engine"]
    assert record.getMessage().startswith("state_changed account=ada ")


def test_an_engine_that_is_logged_is_not_kept_alive() -> None:
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    log_events(engine)
    alive = ref(engine)
    del engine
    gc.collect()
    assert alive() is None


ERROR: AuthError = IssuerUnavailable("503")
EVENTS: list[Event] = [
    StateChanged(Trigger.LOG_OUT, Session(), Session(generation=1)),
    LoginCompleted("login-1", success=True),
    AccountUpdated(None, None),
    RefreshStarted(RefreshReason.NEEDED, 1),
    RefreshRetried(2, 0.51234, ERROR),
    RefreshEnded(RefreshOutcome.REFRESHED, 1.23456, 2, 2),
    RefreshFailed(ERROR, permanent=False),
    TokenExpiring(1_800_000_000.0, 1),
    TokenExpired(1_800_000_000.0, 1),
    EventsMissed(3, Session(generation=4)),
    Warned("code", "message"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_has_a_line(event: Event, captured: Captured) -> None:
    log_event("ada", event)
    level, name, members = describe_event(event)
    [record] = captured.records
    assert record.levelname.lower() == level
    assert record.getMessage().startswith(name)
    assert vars(record)["authstate"] == {"event": name, "account": "ada", **members}


def test_no_event_is_left_out() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_a_fingerprint_tells_tokens_apart_and_shows_nothing() -> None:
    one, other = fingerprint_of_token(Secret("short")), fingerprint_of_token(Secret("shoru"))
    assert one != other and one == fingerprint_of_token(Secret("short"))
    assert re.fullmatch(r"[0-9a-f]{12}", one)


def test_a_fingerprint_is_of_no_use_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint_of_token(Secret("sk-1"))
    monkeypatch.setattr("authstate.adapters.logs.event_lines._KEY", bytes(32))
    assert fingerprint_of_token(Secret("sk-1")) != before


async def test_a_refresh_can_be_followed_line_by_line(captured: Captured) -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=100, now=clock.now())
    authority = FakeAuthority(tokens, clock=clock)
    authority.fail_next(IssuerUnavailable("503"))
    engine = AuthEngine(MemoryStore(tokens), authority, clock=clock)
    log_events(engine)
    async with engine:
        await engine.follow()
        task = asyncio.create_task(engine.refresh())
        await clock.elapse(10)
        await task
    names = [vars(one)["authstate"]["event"] for one in captured.records if one.name == "authstate.engine"]
    assert names == [
        "state_changed",
        "token_expiring",
        "refresh_started",
        "refresh_retried",
        "state_changed",
        "refresh_ended",
    ]
