"""`authstate demo`: shows what authstate does in a few seconds, without an account and without the network.

A test issuer and backend run on loopback, in a process of their own. Each part states results ("50 requests, 1
refresh") and checks them against the counters of the issuer. If a check fails, the demo ends with exit status 1. No
token is shown.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill

import httpx

from authstate.adapters.assembly import build_engine
from authstate.adapters.cli.demo_diagram import draw_states
from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.config import Environment, load_config
from authstate.adapters.httpx_auth import EngineAuth
from authstate.adapters.io.child_environment import child_environment
from authstate.adapters.io.temporary_folder import temporary_folder
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import AuthError
from authstate.engine.model.states import AuthState

_REQUESTS = 50
_PROCESSES = 4
_DOCUMENTATION = "https://github.com/authstate/authstate/tree/main/docs"
_PERSON = {"email": "ada@example.com", "account_id": "org-demo", "user_id": "user-ada", "plan": "plus"}


class CheckFailed(Exception):
    """A result differs from what the demo states."""


class _Demo:
    """One run: a temporary home, the issuer, and the engine whose state is shown."""

    def __init__(self, issuer: LoopbackIssuer, home: Path, say: Callable[[str], None]) -> None:
        self.issuer = issuer
        self.home = home
        self.say = say
        self.environment = {"CODEX_HOME": str(home), **issuer.environment}

    def start_part(self, number: int, title: str) -> None:
        self.say(f"\n{number}. {title}\n")

    def show(self, engine: AuthEngine, step: str) -> None:
        session = engine.session
        self.say(f"   {step}")
        self.say(f"     state: {session.state}, generation {session.generation}")

    def show_machine(self, state: AuthState) -> None:
        self.say("")
        self.say(draw_states(state))
        self.say("")

    def check(self, sentence: str, found: object, expected: object) -> None:
        if found != expected:
            raise CheckFailed(f"a check of the demo failed: {sentence}: found {found}, expected {expected}")
        self.say(f"     [ok] {sentence}")

    def refreshes(self) -> int:
        """Return how many refreshes were requested from the issuer so far, whatever it answered."""
        stats = self.issuer.stats()
        return sum(stats[f"refreshes_{outcome}"] for outcome in ("accepted", "refused", "failed"))

    async def store_login(self) -> None:
        """Store a login with an expired access token in auth.json, like a week-old `codex login`."""
        login = self.issuer.seed(**_PERSON, expires_in=-60)
        async with AuthJsonStore(self.home).locked() as held:
            await held.save(read_login(login))

    async def request_many(self, engine: AuthEngine, count: int = _REQUESTS) -> list[int]:
        """Send `count` requests to the backend at once and return the HTTP statuses."""
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(auth=EngineAuth(engine), trust_env=False, limits=limits, timeout=30) as client:
            url = f"{self.issuer.backend_url}/wham/usage"
            answers = await asyncio.gather(*(client.get(url) for _ in range(count)))
        return [answer.status_code for answer in answers]

    async def run_token_command(self) -> tuple[int | None, bytes]:
        """Run `authstate token` in a process of its own and return its exit status and its output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "authstate.adapters.cli",
            "token",
            stdout=asyncio.subprocess.PIPE,
            env={**_without_keys(), **self.environment},
            start_new_session=True,  # Ctrl-C reaches only the demo, which then ends this process
        )
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        return process.returncode, printed.strip()


def read_login(login: dict[str, str]) -> ChatgptTokens:
    """Return the tokens of a login of the loopback issuer as credentials."""
    names = ("id_token", "access_token", "refresh_token")
    id_token, access_token, refresh_token = (login[name] for name in names)
    return ChatgptTokens.read(id_token=id_token, access_token=access_token, refresh_token=refresh_token)


async def run_demo(say: Callable[[str], None] = print) -> int:
    """Run the four parts and return an exit status. Leaves nothing behind, even if it is cancelled.

    What a run that was killed has left is removed at the start.
    """
    say("authstate keeps all processes of a person signed in with one login.")
    say("This demo has four parts and takes a few seconds. After each step it shows the")
    say("state of the login and its generation, which grows by one with each change.")
    with _no_proxies(), temporary_folder("authstate-demo-") as folder, LoopbackIssuer() as issuer:
        demo = _Demo(issuer, folder, say)
        try:
            await demo.store_login()
            environment = Environment.read(demo.environment)
            config = load_config(demo.home, [f'chatgpt_base_url="{issuer.backend_url}"'])
            async with build_engine(config, environment) as engine:
                await _expired_tokens(demo, engine)
                await _second_process(demo, engine)
                await _parent_owned(demo)
                await _revoked(demo, engine)
        except CheckFailed as failure:
            return print_error(str(failure), ExitStatus.NOT_SIGNED_IN)
    say("\nThe demo is over and left nothing behind.")
    say("Next: `authstate login`. If you use codex here, you are signed in already:")
    say(f"`authstate status` shows it. Documentation:\n{_DOCUMENTATION}")
    return ExitStatus.DONE


async def _expired_tokens(demo: _Demo, engine: AuthEngine) -> None:
    demo.start_part(1, f"The access token has expired, and {_REQUESTS} requests start at once")
    demo.show(engine, "A login of last week was read from auth.json.")
    demo.show_machine(engine.session.state)
    before = demo.refreshes()
    statuses = await demo.request_many(engine)
    demo.show(engine, f"{_REQUESTS} requests were sent to the backend.")
    demo.check(f"all {_REQUESTS} were answered with 200", statuses, [200] * _REQUESTS)
    demo.check("the issuer was asked for new tokens once", demo.refreshes() - before, 1)

    demo.issuer.expire_access()
    before = demo.refreshes()
    statuses = await demo.request_many(engine)
    demo.show(engine, f"The backend rejected that token: {_REQUESTS} more requests got a 401.")
    demo.check(f"all {_REQUESTS} were retried and answered with 200", statuses, [200] * _REQUESTS)
    demo.check("the issuer was asked once more", demo.refreshes() - before, 1)


async def _second_process(demo: _Demo, engine: AuthEngine) -> None:
    demo.start_part(2, f"{_PROCESSES} other processes share the login")
    demo.issuer.expire_access()
    await demo.store_login()
    before = demo.refreshes()
    ended = await asyncio.gather(*(demo.run_token_command() for _ in range(_PROCESSES)))
    demo.show(engine, f"The stored token expired; {_PROCESSES} processes ran `authstate token` at once.")
    demo.check("one of them refreshed, the others used the stored result", demo.refreshes() - before, 1)
    tokens = {token for status, token in ended if status == 0}
    shares = [ended.count((0, token)) for token in tokens]
    demo.check(f"all {_PROCESSES} got the same valid token", shares, [_PROCESSES])
    statuses = await demo.request_many(engine, 1)
    demo.show(engine, "This process still had the old token, got a 401 and read the store.")
    ours = (await engine.authorization()).token.reveal().encode()
    demo.check("its request was retried with the new token", (statuses, {ours}), ([200], tokens))
    demo.check("no further refresh was needed", demo.refreshes() - before, 1)


class _Parent:
    """The parent application, which owns the login and is asked for a token after a 401."""

    def __init__(self, issuer: LoopbackIssuer) -> None:
        self.issuer = issuer
        self.asked = 0

    async def request_tokens(self, *, previous_account_id: str | None) -> ExternalTokens:
        self.asked += 1
        return self.new_tokens()

    def new_tokens(self) -> ExternalTokens:
        login = self.issuer.seed(**_PERSON)
        return ExternalTokens.read(access_token=login["access_token"], id_token=login["id_token"])


async def _parent_owned(demo: _Demo) -> None:
    demo.start_part(3, "A parent application owns the tokens")
    parent = _Parent(demo.issuer)
    store = MemoryStore()
    async with AuthEngine(store, FakeAuthority(), parent=parent) as engine:
        await engine.use_external_tokens(parent.new_tokens())
        demo.show(engine, "The parent passed its tokens in. They stay in memory.")
        demo.show_machine(engine.session.state)
        demo.issuer.expire_access()
        before = demo.refreshes()
        statuses = await demo.request_many(engine)
        demo.show(engine, f"{_REQUESTS} requests got a 401, and the parent was asked for new tokens.")
        demo.check("the parent was asked once", parent.asked, 1)
        demo.check(f"all {_REQUESTS} were retried and answered with 200", statuses, [200] * _REQUESTS)
        demo.check("authstate refreshed nothing and stored nothing", (demo.refreshes() - before, store.saves), (0, 0))


async def _revoked(demo: _Demo, engine: AuthEngine) -> None:
    demo.start_part(4, "The refresh token is revoked")
    demo.issuer.revoke()
    demo.issuer.expire_access()
    before, message = demo.refreshes(), ""
    for _ in range(5):
        try:
            await engine.recover(await engine.authorization())
        except AuthError as error:
            message = str(error)
    demo.show(engine, "An administrator revoked all sessions; five requests were tried in turn.")
    demo.check("the state is refresh_dead", engine.session.state, AuthState.REFRESH_DEAD)
    demo.show_machine(engine.session.state)
    demo.say(fill(f"The person sees: {message}", width=80, initial_indent="   ", subsequent_indent="   ") + "\n")
    demo.check("the revoked token was sent once in five tries", demo.refreshes() - before, 1)
    demo.check("auth.json was not deleted", (demo.home / "auth.json").exists(), True)


def _without_keys() -> dict[str, str]:
    """Return the environment of a process that must not see the person's own keys."""
    theirs = ("CODEX_", "OPENAI_", "COV_CORE_")
    return {name: value for name, value in child_environment().items() if not name.startswith(theirs)}


@contextmanager
def _no_proxies() -> Iterator[None]:
    """Remove the proxies from the environment within a `with` block: loopback needs none."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    for name in proxies:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(proxies)
