"""Faults caused by other programs that use the login: codex, a copy on another machine, a hanging or killed process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from faults.catalogue import THEIRS
from faults.scenario_run import ScenarioResult, ScenarioRun, checked

from authstate import Authorization, RefreshSettings
from authstate.adapters.stores.auth_json_format import encode
from authstate.engine.clock import SystemClock
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.testing import ManualClock

HOLD_THE_LOCK = """
import asyncio, sys
from authstate.adapters.stores.file_store import AuthJsonStore
async def main():
    async with AuthJsonStore(sys.argv[1]).locked():
        print("locked", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


async def lock_held_by_hanging_process(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    clock = ManualClock()
    holder = _start_lock_holder(run.home)
    try:
        async with run.engine(clock=clock) as engine:

            async def refresh_while_a_minute_passes() -> None:
                refresh = asyncio.ensure_future(engine.refresh())
                await clock.elapse(61.0)
                await refresh

            result = await run.result_of(engine, refresh_while_a_minute_passes, repair=holder.kill)
            named = [str(event) for event in run.events if f"process {holder.pid} " in str(event)]
            return result._replace(message=checked(result.message, bool(named) or sys.platform != "linux"))
    finally:
        holder.kill()
        holder.communicate()


def _start_lock_holder(home: Path) -> subprocess.Popen[bytes]:
    """Start a process that takes the lock of the home and keeps it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE_")}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(home)], stdin=pipe, stdout=pipe, env=plain)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


async def file_truncated(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    whole = run.file.read_bytes()
    async with run.engine() as engine:
        run.file.write_bytes(whole[:100])
        return await run.result_of(
            engine,
            engine.refresh,
            repair=lambda: run.file.write_bytes(whole),
            disk=lambda: checked("the half file, as it was", run.file.read_bytes() == whole[:100]),
        )


async def codex_rewrites_in_place(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    theirs, clock = run.issuer.issue(), ManualClock()
    async with run.engine(clock=clock) as engine:
        run.file.write_bytes(b"")

        async def refresh_while_codex_writes() -> None:
            refresh = asyncio.ensure_future(engine.refresh())
            await clock.until_asleep()
            run.file.write_bytes(encode(theirs, None)[:200])
            await clock.elapse(0.02)
            run.codex_writes(theirs)
            await clock.elapse(0.02)
            await refresh

        return await run.result_of(
            engine, refresh_while_codex_writes, disk=lambda: run.describe_if_stored(theirs, THEIRS)
        )


async def codex_refreshes_at_the_same_time(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    theirs = run.issuer.issue()
    run.issuer.kill(RefreshDeadReason.EXHAUSTED)
    run.issuer.accept(theirs)
    clock = ManualClock()
    async with run.engine(clock=clock, settings=RefreshSettings(rechecks=(0.0, 0.25, 0.75))) as engine:

        async def refresh_while_codex_stores() -> None:
            refresh = asyncio.ensure_future(engine.refresh())
            await clock.until_asleep()
            run.codex_writes(theirs)
            await clock.elapse(0.25)
            await refresh

        return await run.result_of(
            engine, refresh_while_codex_stores, disk=lambda: run.describe_if_stored(theirs, THEIRS)
        )


async def codex_spends_the_token_and_stores_nothing(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in(run.issuer.issue())
    run.codex_writes(run.tokens)
    return await _refresh_with_spent_token(run)


async def copy_used_elsewhere(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    return await _refresh_with_spent_token(run)


async def _refresh_with_spent_token(run: ScenarioRun) -> ScenarioResult:
    """Refresh with a token that was spent elsewhere, four times. Only the first refresh may send it."""
    run.issuer.kill(RefreshDeadReason.EXHAUSTED)
    async with run.engine() as engine:
        result = await run.result_of(engine, engine.refresh)
        for _ in range(3):
            try:
                await engine.refresh()
            except PermanentRefreshError:
                continue
            raise AssertionError("a dead token came back to life")
        return result._replace(sent=len(run.issuer.sent))


async def killed_before_the_token_was_spent(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    await _leave_claim_of_killed_process(run)
    async with run.engine() as engine:
        refused = Authorization.of(engine.session)
        return await run.result_of(engine, lambda: engine.recover(refused))


async def killed_after_the_token_was_spent(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    await _leave_claim_of_killed_process(run)
    run.issuer.kill(RefreshDeadReason.EXHAUSTED)
    async with run.engine() as engine:
        refused = Authorization.of(engine.session)
        return await run.result_of(engine, lambda: engine.recover(refused))


async def _leave_claim_of_killed_process(run: ScenarioRun) -> None:
    """Record the claim that a process leaves behind if it is killed (SIGKILL) after it sent the refresh token."""
    claim = RefreshClaim(fingerprint_of(run.tokens.refresh_token)).after(RefreshClaimTrigger.CLAIM, SystemClock().now())
    async with run.store().locked() as held:
        await held.record(claim)
