"""A refresh that is stored on disk, beside the least that it takes: one write that is synced."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from benchmarks.comparison import Comparison, compare

from authstate import AuthEngine, AuthJsonStore, ChatgptTokens
from authstate.testing import FakeAuthority

NAMES = ("a refresh with its store",)


def measure(rounds: int) -> list[Comparison]:
    """Compare one refresh against the fake issuer with a synced write of as many bytes, on the same disk."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = FakeAuthority()
        engine = AuthEngine(AuthJsonStore(home), authority)
        runner.run(_sign_in(engine, home, authority.issue()))
        stack.callback(lambda: runner.run(engine.close()))
        contenders: dict[str, Callable[[], Callable[[], float]]] = {
            "authstate": lambda: lambda: runner.run(_refresh(engine)),
            "a write and an fsync": lambda: lambda: _synced_write(home),
        }
        return [compare(NAMES[0], "ms", contenders, rounds)]


async def _sign_in(engine: AuthEngine, home: Path, tokens: ChatgptTokens) -> None:
    async with AuthJsonStore(home).locked() as held:
        await held.save(tokens)
    await engine.start()


async def _refresh(engine: AuthEngine) -> float:
    began = perf_counter()
    await engine.refresh()
    return (perf_counter() - began) * 1000


def _synced_write(home: Path) -> float:
    began = perf_counter()
    fd = os.open(home / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, b"x" * 4000)
    os.fsync(fd)
    os.close(fd)
    return (perf_counter() - began) * 1000
