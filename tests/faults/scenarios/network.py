"""Faults of the network and of the issuer."""

import asyncio
from contextlib import suppress
from random import Random

from faults.bad_issuer import RESET, answer, serve_answers
from faults.scenario_run import ScenarioResult, ScenarioRun
from support.ports import private_port

from authstate import RefreshSettings
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.errors import IssuerUnavailable
from authstate.testing import FakeAuthority

TIMEOUT = 60.0
"""Seconds for an answer, which comes at once, or for a resolver to say that there is no such name."""


async def issuer_name_not_found(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_at_unreachable_url(run, "https://issuer.invalid")


async def connection_refused(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_at_unreachable_url(run, f"http://127.0.0.1:{private_port()}")


async def _refresh_at_unreachable_url(run: ScenarioRun, url: str) -> ScenarioResult:
    """Refresh once, without a retry, at an issuer that cannot be reached."""
    await run.sign_in()
    settings = RefreshSettings(first_wait=0.0, total=0.0)
    authority = SwitchedAuthority(HttpTokenAuthority(url, "client", timeout=TIMEOUT))
    async with run.engine(authority, settings=settings) as engine:
        return await run.result_of(engine, engine.refresh, sent=lambda: 0, repair=lambda: authority.use(run.issuer))


async def connection_reset(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_with_answer(run, RESET)


async def answer_lost(run: ScenarioRun) -> ScenarioResult:
    reused = answer("401 Unauthorized", b'{"error": {"code": "refresh_token_reused"}}')
    return await _refresh_with_answer(run, RESET, later=reused)


async def answer_truncated(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_with_answer(run, answer("200 OK", b'{"access_token": "abc', length=500))


async def issuer_overloaded(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_with_answer(run, answer("429 Too Many Requests", b"{}", "Retry-After: 3600"))


async def issuer_unavailable_for_minutes(run: ScenarioRun) -> ScenarioResult:
    return await _refresh_with_answer(run, answer("503 Service Unavailable", b"{}"), calls=5)


async def _refresh_with_answer(
    run: ScenarioRun, reply: bytes, calls: int = 1, later: bytes | None = None
) -> ScenarioResult:
    """Refresh with the real HTTP client. No real time passes while it waits.

    Args:
        run: the home.
        reply: what the issuer answers.
        calls: how often the program refreshes, once a minute. The result is that of the last call.
        later: what the issuer answers to the second request and all others, if that is not `reply`.
    """
    await run.sign_in()
    clock = SkippingClock()
    async with serve_answers(reply, later) as issuer:
        authority = SwitchedAuthority(HttpTokenAuthority(f"http://127.0.0.1:{issuer.port}", "client", timeout=TIMEOUT))
        async with run.engine(authority, clock=clock, settings=RefreshSettings(), random=LongestWaits()) as engine:
            for _ in range(calls - 1):
                with suppress(IssuerUnavailable):
                    await engine.refresh()
                await clock.sleep(60.0)
            assert clock.monotonic() >= 60.0 * (calls - 1)
            repair = None if later else lambda: authority.use(run.issuer)
            return await run.result_of(engine, engine.refresh, sent=lambda: issuer.requests, repair=repair)


class SkippingClock:
    """A clock whose sleeps return at once and advance its time."""

    def __init__(self) -> None:
        self._elapsed = 0.0

    def now(self) -> float:
        return 1_800_000_000.0 + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self._elapsed += seconds
        await asyncio.sleep(0)


class LongestWaits(Random):
    """A source of randomness that makes every jittered wait as long as possible."""

    def random(self) -> float:
        return 1.0


class SwitchedAuthority:
    """A token endpoint that a test can replace while an engine uses it."""

    def __init__(self, authority: HttpTokenAuthority) -> None:
        self.use(authority)

    def use(self, authority: HttpTokenAuthority | FakeAuthority) -> None:
        self.refresh = authority.refresh
        self.revoke = authority.revoke
