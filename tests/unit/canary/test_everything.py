"""No secret shows: not in a repr of anything that can be reached, not in an exception's text, not in a log line."""

import asyncio
import gc
import io
import logging
import traceback
from collections.abc import Awaitable, Iterator
from typing import cast

import msgspec
import pytest

from authstate.adapters.logs.event_lines import log_events
from authstate.adapters.logs.stderr_lines import configure_logs
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginFlow
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import AuthError, InvalidCredentials, IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.events import Event
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import PartialRefresh, RefreshedTokens
from authstate.testing import FakeAuthority, FakeParent, ManualClock, MemoryStore, make_jwt

CANARY = "CaNaRy"
CLAIMS = {"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}, "email": "person@example.com"}


def jwt(**claims: object) -> str:
    """A JWT whose text holds the canary in its signature, beside claims that anybody could decode."""
    return make_jwt(**CLAIMS, **claims) + CANARY


def tokens(number: int, expires_at: float) -> ChatgptTokens:
    return ChatgptTokens.read(
        id_token=jwt(jti=f"id-{number}"),
        access_token=jwt(jti=f"at-{number}", exp=expires_at),
        refresh_token=f"rt-{CANARY}-{number}",
    )


class CanaryAuthority(FakeAuthority):
    """Answers with tokens that hold the canary."""

    def _grant(self, account: object) -> RefreshedTokens:
        assert self.clock is not None
        new = tokens(100 + len(self.sent), self.clock.now() + 3600)
        return RefreshedTokens(new.access_token, new.refresh_token, new.id_token)


class Run:
    """Everything that came out of a scripted run."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.first = tokens(1, self.clock.now() - 1)
        self.authority = CanaryAuthority(self.first, clock=self.clock)
        self.authority.owners[f"at-{CANARY}"] = Account(account_id="org-1", user_id="user-1")
        self.store = MemoryStore(self.first)
        self.parent = FakeParent()
        self.engine = AuthEngine(
            self.store,
            self.authority,
            parent=self.parent,
            clock=self.clock,
            settings=RefreshSettings(total=0.0, rechecks=()),
        )
        self.events: list[Event] = []
        self.seen: list[object] = []
        self.errors: list[BaseException] = []
        self.engine.subscribe(self.events.append)

    @classmethod
    def with_logs(cls) -> "Run":
        """A run whose engine writes a line for each event."""
        run = cls()
        log_events(run.engine)
        return run

    async def attempt(self, call: object) -> None:
        """Do it, and keep what comes back or what is raised."""
        try:
            self.seen.append(await cast("Awaitable[object]", call))
        except (AuthError, ValueError, TypeError) as error:
            self.errors.append(error)
        self.seen.append(self.engine.session)


async def scripted(run: Run | None = None) -> Run:
    """Every feature once, and every failure that has a secret in its hands."""
    run = run or Run()
    engine = run.engine
    await run.attempt(engine.start())
    await run.attempt(engine.authorization())
    await run.attempt(engine.recover(await engine.authorization()))
    run.authority.fail_next(IssuerUnavailable("503"))
    await run.attempt(engine.refresh())
    run.authority.answer_without_access_token_next()
    await run.attempt(engine.refresh())
    run.store.credentials = tokens(2, run.clock.now() + 3600)
    await run.attempt(engine.reload())
    await run.attempt(engine.refresh())
    await run.attempt(engine.authorization())
    await run.attempt(engine.recover(await engine.authorization()))
    await run.attempt(engine.use_api_key(f"sk-{CANARY}"))
    await run.attempt(engine.recover(await engine.authorization()))
    await run.attempt(engine.use_api_key(PersonalAccessToken.parse(f"at-{CANARY}-unknown")))
    await run.attempt(engine.use_api_key(PersonalAccessToken.parse(f"at-{CANARY}")))
    await run.attempt(engine.recover(await engine.authorization()))
    attempt = await engine.begin_login("login-1", LoginFlow.BROWSER)
    attempt.authorized()
    third = run.authority.accept(tokens(3, run.clock.now() + 3600))
    await run.attempt(engine.complete_login(attempt, third))
    await run.attempt(engine.complete_login(attempt, third))
    await run.attempt(engine.use_external_tokens(ExternalTokens.read(access_token=jwt(exp=9e9), id_token=jwt())))
    await run.attempt(engine.complete_chatgpt_login(third))
    run.parent.will_answer(
        InvalidCredentials("the access token is not a JWT"),
        ValueError(f"a bug with {CANARY}"),
        ExternalTokens.read(access_token=jwt(), account_id="org-2"),
        ExternalTokens.read(access_token=jwt()),
    )
    for _ in range(4):
        await run.attempt(engine.recover(await engine.authorization()))
    run.authority.fail_revoke(IssuerUnavailable("503"))
    await run.attempt(engine.log_out())
    await run.attempt(engine.authorization())
    fourth = run.authority.accept(tokens(4, run.clock.now() + 10))
    await run.attempt(engine.complete_chatgpt_login(fourth))
    run.authority.kill(RefreshDeadReason.REVOKED)
    await run.attempt(engine.refresh())
    await run.attempt(engine.recover(await engine.authorization()))
    run.clock.advance(60)
    await run.attempt(engine.authorization())
    await run.clock.settle()
    run.seen += [run.store.credentials, PartialRefresh(Secret(CANARY)), *run.events, *run.errors, engine]
    return run


def reachable(roots: list[object]) -> Iterator[object]:
    """Every object of authstate's own that can be reached from these, and what msgspec and containers hold."""
    stack, known = list(roots), set()
    while stack:
        thing = stack.pop()
        if id(thing) in known or isinstance(thing, type | str | bytes):
            continue
        known.add(id(thing))
        module = type(thing).__module__
        if module.startswith("authstate.engine") or isinstance(thing, BaseException):
            yield thing
            stack += gc.get_referents(thing)
        elif isinstance(thing, list | tuple | dict | set | deque_type):
            stack += gc.get_referents(thing)


deque_type = type(FakeParent()._answers)


async def test_nothing_that_can_be_reached_shows_a_secret() -> None:
    run = await scripted()
    assert len(run.errors) >= 10
    things = list(reachable(run.seen))
    kinds = {type(thing).__name__ for thing in things}
    assert {"Session", "ChatgptTokens", "ApiKey", "ExternalTokens", "Authorization", "Secret", "StateChanged"} <= kinds
    assert {"RefreshFailed", "Warned", "PermanentRefreshError", "AuthEngine", "RefreshedTokens"} - kinds <= {
        "RefreshedTokens"
    }
    for thing in things:
        for shown in (repr(thing), str(thing), f"{thing}", f"{thing!s} {thing!r}"):
            assert CANARY not in shown, type(thing)
        if isinstance(thing, Secret):
            assert CANARY in thing.reveal()  # the canary was there all the time
        elif isinstance(thing, msgspec.Struct):
            assert CANARY not in str(msgspec.structs.asdict(thing))


async def test_no_exception_shows_a_secret() -> None:
    run = await scripted()
    for error in run.errors:
        text = "".join(traceback.format_exception(error))
        assert CANARY not in text, type(error)
        chain: BaseException | None = error
        while chain is not None:
            assert CANARY not in repr(chain.args), type(chain)
            chain = chain.__cause__ or chain.__context__


@pytest.mark.parametrize("as_json", [False, True])
async def test_no_log_line_shows_a_secret(as_json: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)  # transitions, asyncio and tenacity tell everything
    stream = io.StringIO()
    undo = configure_logs("debug", as_json=as_json, stream=stream)
    try:
        run = await scripted(Run.with_logs())
        for error in run.errors:
            logging.getLogger("somebody").error("failed: %s", error, exc_info=error)
        logging.getLogger("somebody").error("holding %r %s", run.first, run.engine.session)
    finally:
        undo()
    assert stream.getvalue().count("state_changed") >= 8
    assert CANARY not in stream.getvalue()
    assert CANARY not in caplog.text


async def test_nothing_that_reaches_the_root_logger_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await scripted(Run.with_logs())
    lines = [record for record in caplog.records if record.name == "authstate.engine"]
    assert len({vars(record)["authstate"]["event"] for record in lines}) >= 8
    for record in caplog.records:
        assert CANARY not in f"{vars(record)} {record.getMessage()} {record.exc_info}"


async def test_a_task_that_fails_shows_no_secret() -> None:
    run = Run()
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(str(context)))

    def broken(event: Event) -> None:
        raise ValueError(f"no such event: {event!r}")

    run.engine.subscribe(broken)
    await run.engine.start()
    await run.engine.authorization()
    assert len(faults) == len(run.events)
    assert all("no such event" in fault and CANARY not in fault for fault in faults)
