"""AppServerClient with the real codex: several agents of one engine run turns, and nothing of the login is on disk."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.codex_turns import model_config, thread_params, turn_params
from support.wire_client import clean_environment

from authstate.adapters.assembly import open_engine
from authstate.adapters.child import client
from authstate.adapters.child.client import AppServerClient
from authstate.adapters.config import Environment, load_config
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ExternalTokens
from authstate.engine.model.states import AuthState
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]


class AdvancedClock(SystemClock):
    """The machine's clock, which a test can advance: what sleeps on it still sleeps in real time."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class Agent:
    """One child: the link to it, and what it told."""

    def __init__(self, engine: AuthEngine, codex: Path, home: Path, issuer: LoopbackIssuer) -> None:
        self.home = home
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.warned: list[str] = []
        self.clock = AdvancedClock()
        self.context = AppServerClient.of_command(
            engine,
            [str(codex), "app-server"],
            environment=clean_environment(home, **issuer.environment),
            name="link-test",
            version="1.0",
            on_notification=lambda method, params: self.told.put_nowait((method, params)),
            warn=lambda code, message: self.warned.append(f"{code}: {message}"),
            clock=self.clock,
        )

    async def __aenter__(self) -> "Agent":
        self.link = await self.context.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.context.__aexit__(None, None, None)

    async def turn(self, words: str) -> Any:
        """Run a turn in a new thread; the turn as it was completed."""
        thread = (await self.link.request("thread/start", thread_params(self.home)))["thread"]["id"]
        await self.link.request("turn/start", turn_params(thread, words))
        return await asyncio.wait_for(self._completed(thread), 60)

    async def let_tokens_age(self) -> None:
        """Wait until the child took the newest tokens; its questions are about these from then on."""
        await self.link._token_sync.settled()
        self.clock.advance(1.0)

    async def _completed(self, thread: str) -> Any:
        while True:
            method, params = await self.told.get()
            if method == "turn/completed" and params["threadId"] == thread:
                return params["turn"]


def engine_of(home: Path, issuer: LoopbackIssuer) -> AuthEngine:
    return open_engine(load_config(home), Environment.read(clean_environment(home, **issuer.environment)))


async def test_agents_of_one_engine_run_turns_on_one_refresh(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    children = [make_home(config=model_config(issuer)) for _ in range(2)]
    async with (
        engine_of(home, issuer) as engine,
        Agent(engine, codex, children[0], issuer) as one,
        Agent(engine, codex, children[1], issuer) as other,
    ):
        turns = await asyncio.gather(one.turn("hello"), other.turn("use a tool, then expire"))
        assert [turn["status"] for turn in turns] == ["completed", "completed"]
        await asyncio.gather(one.let_tokens_age(), other.let_tokens_age())
        issuer.expire_access()
        turns = await asyncio.gather(one.turn("again"), other.turn("again"))
        assert [turn["status"] for turn in turns] == ["completed", "completed"], turns
        assert one.warned == other.warned == []
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (2, 0)
    assert [name for child in children for name in os.listdir(child) if name == "auth.json"] == []


async def test_every_kind_of_login_reaches_a_running_child(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer))
    async with engine_of(home, issuer) as engine, Agent(engine, codex, home, issuer) as agent:

        async def sees() -> Any:
            status = await agent.link.request("getAuthStatus", {"includeToken": True, "refreshToken": False})
            return status["authMethod"], status["authToken"]

        async def until(wanted: Any) -> None:
            async with asyncio.timeout(60):
                while await sees() != wanted:  # each look is a round trip to the child
                    pass

        await until((None, None))
        await engine.use_api_key(ApiKey.parse("sk-link-1"))
        await until(("apikey", "sk-link-1"))
        for account in ("org-1", "org-2"):
            tokens = issuer.seed(account_id=account)
            external = ExternalTokens.read(
                access_token=tokens["access_token"], id_token=tokens["id_token"], account_id=account
            )
            await engine.use_external_tokens(external)
            await until(("chatgptAuthTokens", tokens["access_token"]))
            assert (await agent.turn("hello"))["status"] == "completed"
        await engine.log_out()
        await until((None, None))
        assert engine.session.state is AuthState.LOGGED_OUT
        assert agent.warned == []


async def test_the_other_children_work_on_after_one_is_killed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", config=model_config(issuer))
    async with engine_of(home, issuer) as engine, Agent(engine, codex, home, issuer) as survivor:
        async with Agent(engine, codex, make_home(config=model_config(issuer)), issuer) as victim:
            process = victim.context._process
            assert process is not None
            process.kill()
            await asyncio.wait_for(victim.link.wait_closed(), 60)
        issuer.expire_access()
        assert (await survivor.turn("still there"))["status"] == "completed"
    assert issuer.stats()["refreshes_accepted"] == 1


STUBBORN = """
import json, sys, time
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        print(json.dumps({"id": message["id"], "result": {}}), flush=True)
time.sleep(600)
"""


async def test_a_child_that_does_not_end_is_killed(
    make_home: MakeHome, issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_END_WITHIN", 0.2)
    command = [sys.executable, "-c", STUBBORN, "app-server"]
    async with engine_of(make_home(), issuer) as engine:
        context = AppServerClient.of_command(engine, command, name="test", version="1")
        async with context:
            process = context._process
        assert process is not None
        assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("command", [["no-such-program-here", "app-server"]])
async def test_a_missing_program_is_an_error_of_its_own(
    command: list[str], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    async with engine_of(make_home(), issuer) as engine:
        with pytest.raises(FileNotFoundError):
            async with AppServerClient.of_command(engine, command, name="test", version="1"):
                raise AssertionError("it must not open")
