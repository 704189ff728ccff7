"""Faults of what is stored: an older login, that of another account, none, or one without a refresh token."""

from collections.abc import Callable

from faults.scenario_run import ScenarioResult, ScenarioRun, checked, login_files

from authstate.testing import make_tokens

OTHER_ACCOUNT = "the other account"


async def backup_restored(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    async with run.engine() as engine:
        await engine.refresh()
        run.codex_writes(run.tokens)
        return await run.result_of(engine, engine.refresh)


async def another_account(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    other = make_tokens(account_id="org-2")
    async with run.engine() as engine:
        run.codex_writes(other)
        return await run.result_of(engine, engine.refresh, disk=lambda: run.describe_if_stored(other, OTHER_ACCOUNT))


async def another_account_followed(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    other = make_tokens(account_id="org-2")
    async with run.engine() as engine:
        run.codex_writes(other)
        await engine.follow()
        return await run.result_of(
            engine, engine.authorization, disk=lambda: run.describe_if_stored(other, OTHER_ACCOUNT)
        )


async def signed_out_during_the_refresh(run: ScenarioRun) -> ScenarioResult:
    return await _change_during_the_refresh(
        run, run.file.unlink, lambda: checked("nothing", login_files(run.home) == [])
    )


async def another_account_during_the_refresh(run: ScenarioRun) -> ScenarioResult:
    other = make_tokens(account_id="org-2")
    return await _change_during_the_refresh(
        run, lambda: run.codex_writes(other), lambda: run.describe_if_stored(other, OTHER_ACCOUNT)
    )


async def _change_during_the_refresh(
    run: ScenarioRun, change: Callable[[], None], disk: Callable[[], str]
) -> ScenarioResult:
    """Let a program without the lock change what is stored between the request to the issuer and its answer."""
    await run.sign_in()
    async with run.engine() as engine:
        return await run.result_of(engine, lambda: run.refresh_with_change(engine, change), disk=disk)


async def expired_without_refresh_token(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in(make_tokens(refresh_token="", expires_in=-60.0))
    async with run.engine() as engine:
        return await run.result_of(engine, engine.authorization)


async def valid_access_token_without_refresh_token(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in(make_tokens(refresh_token=""))
    async with run.engine() as engine:
        return await run.result_of(engine, engine.authorization)
