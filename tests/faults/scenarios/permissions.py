"""Faults of file modes and owners: files that this user cannot read or write, and files of other users."""

from faults.scenario_run import NOBODY, ScenarioResult, ScenarioRun, as_root, checked


async def home_not_writable(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.home.chmod(0o500)
            return await run.result_in_place(engine)


async def home_and_file_not_writable(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.file.chmod(0o400)
            run.home.chmod(0o500)

            def repair() -> None:
                run.home.chmod(0o700)
                run.file.chmod(0o600)

            return await run.result_of(engine, engine.refresh, repair=repair)


async def home_not_accessible(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            stored = run.content()
            run.home.chmod(0o000)
            return await run.result_of(engine, engine.refresh, repair=lambda: run.home.chmod(0o700), stored=stored)


async def owned_by_another_user(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.change_owner(run.file, 0)
            return await run.result_of(engine, engine.refresh, repair=lambda: run.change_owner(run.file, NOBODY))


async def lock_of_another_user(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        run.change_owner(run.home / "auth.json.authstate.lock", 0)
        async with run.engine() as engine:
            return await run.result_of(engine, engine.refresh)


async def file_of_root_in_sticky_folder(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        run.file.chmod(0o666)
        with as_root():
            run.home.chmod(0o1777)
        run.change_owner(run.file, 0)
        run.change_owner(run.home, 0)
        async with run.engine() as engine:
            result = await run.result_in_place(engine)
        is_owned = run.file.stat().st_uid == 0
    return result._replace(disk=checked(f"{result.disk}; it belongs to its owner", is_owned))


async def file_planted_by_another_user(run: ScenarioRun) -> ScenarioResult:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.home.chmod(0o777)
            run.file.chmod(0o666)
            run.change_owner(run.file, 1)
            return await run.result_of(engine, engine.refresh, repair=lambda: run.change_owner(run.file, NOBODY))


async def run_as_root(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    async with run.engine() as engine:
        result = await run.result_of(engine, engine.refresh)
    owners = {path.stat().st_uid for path in run.home.iterdir()}
    text = f"{result.disk}; everything in the home belongs to that user"
    return result._replace(disk=checked(text, owners == {run.home.stat().st_uid}))
