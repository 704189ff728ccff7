"""Faults of the wall clock: it jumps a year ahead or a year back."""

from faults.scenario_run import ScenarioResult, ScenarioRun

from authstate import Authorization
from authstate.testing import FakeAuthority, ManualClock

YEAR = 365 * 86_400.0


async def clock_a_year_ahead(run: ScenarioRun) -> ScenarioResult:
    true, wrong = ManualClock(), ManualClock()
    run.issuer = FakeAuthority(clock=true)
    run.tokens = run.issuer.issue()
    await run.sign_in()
    async with run.engine(clock=wrong) as engine:
        wrong.jump_wall(YEAR)

        async def many_requests() -> None:
            for _ in range(100):
                await engine.authorization()

        return await run.result_of(engine, many_requests)


async def clock_a_year_back(run: ScenarioRun) -> ScenarioResult:
    true, wrong = ManualClock(), ManualClock()
    run.issuer = FakeAuthority(clock=true)
    run.tokens = run.issuer.issue()
    await run.sign_in()
    async with run.engine(clock=wrong) as engine:
        wrong.jump_wall(-YEAR)
        true.advance(7200.0)

        async def backend_refuses() -> None:
            used: Authorization = await engine.authorization()
            assert used.token == run.tokens.access_token
            assert await engine.recover(used) != used

        return await run.result_of(engine, backend_refuses)
