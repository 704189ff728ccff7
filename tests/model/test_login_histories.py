"""Concurrent logins: in any order, each attempt has one outcome, and the stored login is that of the last success.

The first part runs three or four operations concurrently in every possible order. The second part runs long histories
of real device logins, with actions of users, clients and issuers that hypothesis chooses.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from model.login_world import EXTERNAL, KEY, History, SteppedWorld, World, histories

from authstate.adapters.oauth.device_endpoint import DeviceApproval, DeviceCode, DeviceCodeExpired, SlowDown
from authstate.adapters.oauth.device_login import DeviceLogin, start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.machines.login_attempt import LoginFlow
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, EngineClosed, IssuerUnavailable, LoginFailed, StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

# Every interleaving of three operations, and of one group of four


class Gates:
    """The places where operations wait until the test opens them, one at a time."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, name: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        finally:
            if future in self.waiting:
                self.waiting.remove(future)

    def open(self, index: int) -> None:
        self.waiting.pop(index).set_result(None)


Operation = Callable[[World, Gates], Coroutine[Any, Any, None]]


async def log_in(world: World, gates: Gates, name: str) -> None:
    """A complete login: begin, approval by the user, exchange of the code, storing of the tokens."""
    await gates("begin")
    world.tokens[name] = make_tokens(account_id=name)
    try:
        attempt = await world.engine.begin_login(name, LoginFlow.BROWSER)
        world.attempts[name] = attempt
        await gates("agree")
        attempt.authorized()
        await gates("exchange")
        await world.engine.complete_login(attempt, world.tokens[name])
    except AuthError:
        return


async def login_a(world: World, gates: Gates) -> None:
    await log_in(world, gates, "a")


async def login_b(world: World, gates: Gates) -> None:
    await log_in(world, gates, "b")


async def cancel(world: World, gates: Gates) -> None:
    await gates("cancel")
    try:
        cancelled = await world.engine.cancel_login("a")
    except EngineClosed:
        return
    assert cancelled == ("a" in world.attempts and world.attempts["a"].state == "cancelled")


async def log_out(world: World, gates: Gates) -> None:
    await gates("log out")
    await unless_refused(world.engine.log_out())


async def use_key(world: World, gates: Gates) -> None:
    await gates("key")
    await unless_refused(world.engine.use_api_key(KEY))


async def use_external(world: World, gates: Gates) -> None:
    await gates("external")
    await unless_refused(world.engine.use_external_tokens(EXTERNAL))


async def unless_refused(work: Coroutine[Any, Any, None]) -> None:
    """Await an operation that may be refused: external tokens refuse logins, and a closed engine refuses everything."""
    try:
        await work
    except AuthError:
        return


async def run_out(world: World, gates: Gates) -> None:
    await gates("time")
    world.clock.advance(600)


async def close(world: World, gates: Gates) -> None:
    await gates("close")
    await world.engine.close()


OTHERS = (cancel, log_out, use_key, use_external, run_out, close)
COMBINATIONS: list[tuple[Operation, ...]] = [
    *((login_a, login_b, other) for other in OTHERS),
    *((login_a, *pair) for pair in combinations(OTHERS, 2)),
    (login_a, login_b, cancel, log_out),
]


async def play(operations: tuple[Operation, ...], choices: list[int]) -> tuple[list[int], World]:
    """Run the operations once.

    Args:
        operations: they run concurrently.
        choices: which of the waiting operations continues, at each choice. After the last one it is always the first.

    Returns:
        How many operations waited at each choice, and the world afterwards.
    """
    gates = Gates()
    world = World(gates)
    await world.engine.start()
    tasks = [asyncio.create_task(operation(world, gates)) for operation in operations]
    widths: list[int] = []
    await world.clock.settle(8)
    while gates.waiting:
        choice = choices[len(widths)] if len(widths) < len(choices) else 0
        widths.append(len(gates.waiting))
        gates.open(choice)
        await world.clock.settle(8)
        world.check()
    assert all(task.done() for task in tasks), "nothing waits at a gate, and somebody waits"
    for task in tasks:
        task.result()
    return widths, world


async def every_interleaving(operations: tuple[Operation, ...]) -> AsyncIterator[World]:
    """Run the operations in every order in which they can continue. Yields the world after each run."""
    choices: list[int] | None = []
    while choices is not None:
        widths, world = await play(operations, choices)
        yield world
        choices = choices + [0] * (len(widths) - len(choices))
        while choices and choices[-1] + 1 == widths[len(choices) - 1]:
            choices.pop()
        if choices:
            choices[-1] += 1
        else:
            choices = None


@pytest.mark.parametrize("operations", COMBINATIONS, ids=lambda some: "-".join(one.__name__ for one in some))
async def test_every_interleaving(operations: tuple[Operation, ...]) -> None:
    count, endings = 0, set()
    async for world in every_interleaving(operations):
        assert not any(attempt.is_open for attempt in world.attempts.values())
        endings.add(tuple(sorted((name, attempt.state) for name, attempt in world.attempts.items())))
        count += 1
    assert count >= 15
    assert len(endings) >= 2, "the order made no difference: it was not explored"


# Long histories of real device logins


class FakeEndpoint:
    """The issuer of one device login. What it says next is what was put in."""

    def __init__(self, tokens: ChatgptTokens) -> None:
        self.tokens = tokens
        self.says: deque[DeviceApproval | Exception] = deque()

    async def request(self) -> DeviceCode:
        return DeviceCode(Secret("device"), "ABCD-0001", 5.0, "https://issuer.example/codex/device")

    async def poll(self, code: DeviceCode) -> DeviceApproval | None:
        said = self.says.popleft() if self.says else None
        if isinstance(said, Exception):
            raise said
        return said

    async def exchange(self, approval: DeviceApproval) -> ChatgptTokens:
        await asyncio.sleep(0)
        return self.tokens

    async def aclose(self) -> None:
        await asyncio.sleep(0)


class DeviceWorld(SteppedWorld):
    """A world with device logins, and a store that fails while `sick` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.sick = False
        self.logins: list[tuple[DeviceLogin, FakeEndpoint]] = []

    async def slowly(self, what: str) -> None:
        await super().slowly(what)
        if self.sick:
            raise StoreUnavailable("the home is read-only")

    async def start(self, number: int) -> None:
        endpoint = FakeEndpoint(make_tokens(account_id=f"org-{len(self.logins)}-{number}"))
        login = await start_device_login(self.engine, Issuer(), endpoint=endpoint, clock=self.clock)
        self.attempts[login.attempt.login_id] = login.attempt
        self.tokens[login.attempt.login_id] = endpoint.tokens
        self.logins.append((login, endpoint))

    async def approve(self, number: int) -> None:
        self.say(number, DeviceApproval(Secret("ac"), Secret("verifier")))

    async def deny(self, number: int) -> None:
        self.say(number, LoginFailed("declined", "access_denied"))

    async def forget(self, number: int) -> None:
        self.say(number, DeviceCodeExpired("too old", "expired_token"))

    async def disturb(self, number: int) -> None:
        self.say(number, SlowDown("slower") if number % 2 else IssuerUnavailable("no network"))

    def say(self, number: int, said: DeviceApproval | Exception) -> None:
        if self.logins:
            self.logins[-1 - number % len(self.logins)][1].says.append(said)

    async def cancel(self, number: int) -> None:
        if self.logins:
            await self.engine.cancel_login(self.logins[-1 - number % len(self.logins)][0].attempt.login_id)

    async def wait(self, number: int) -> None:
        await self.clock.elapse((1.0, 5.0, 10.0, 900.0)[number % 4])

    async def sicken(self, number: int) -> None:
        self.sick = number % 2 == 0


STEPS = ("start", "start", "approve", "approve", "deny", "forget", "disturb", "cancel")
MORE = ("wait", "wait", "wait", "sicken")


async def live(history: History) -> DeviceWorld:
    world = DeviceWorld()
    await world.live(history)
    return world


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(STEPS + MORE, numbers=7, length=25))
def test_whatever_happens_each_login_has_one_outcome(history: History) -> None:
    asyncio.run(live(history))


async def test_the_histories_can_reach_every_outcome() -> None:
    once = [("start", 0)], [("approve", 0)], [("wait", 1)]
    again = [("start", 0)], [("start", 0)], [("deny", 0)], [("wait", 1)], [("start", 0)], [("cancel", 0)]
    world = await live([*map(list, (*once, *again, [("start", 0)], [("wait", 3)]))])
    states = [attempt.state for attempt in world.attempts.values()]
    assert states == ["succeeded", "superseded", "failed", "cancelled", "expired"]
