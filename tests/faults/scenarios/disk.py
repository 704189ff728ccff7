"""Faults of the disk and of the home folder: full, read-only, without locks, deleted, or auth.json is no plain file."""

import errno
import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

from faults.scenario_run import ScenarioResult, ScenarioRun, checked, login_files
from faults.simulated_disks import ReadOnlyDisk, UnwritableDisk


async def disk_full(run: ScenarioRun) -> ScenarioResult:
    if not run.mount_home(kilobytes=128):
        run.disk = UnwritableDisk(errno.ENOSPC)
    await run.sign_in()
    filler = run.home / "filler"
    async with run.engine() as engine:
        if isinstance(run.disk, UnwritableDisk):
            run.disk.is_broken = True
            return await run.result_of(engine, engine.refresh, repair=lambda: setattr(run.disk, "is_broken", False))
        _fill_disk(filler)
        return await run.result_of(engine, engine.refresh, repair=filler.unlink)


def _fill_disk(path: Path) -> None:
    """Write to a file until its disk is full."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC


async def file_system_read_only(run: ScenarioRun) -> ScenarioResult:
    if not run.mount_home(kilobytes=128):
        run.disk = ReadOnlyDisk(errno.EROFS)
    await run.sign_in()

    def remount(mode: str) -> None:
        if isinstance(run.disk, UnwritableDisk):
            run.disk.is_broken = mode == "ro"
        else:
            subprocess.run(["mount", "-o", f"remount,{mode}", str(run.home)], check=True)

    async with run.engine() as engine:
        remount("ro")
        return await run.result_of(engine, engine.refresh, repair=lambda: remount("rw"))


async def home_deleted(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    async with run.engine() as engine:
        shutil.rmtree(run.home)
        return await run.result_of(
            engine,
            engine.refresh,
            disk=lambda: checked("nothing; the home is there again", login_files(run.home) == []),
        )


async def file_is_symbolic_link(run: ScenarioRun) -> ScenarioResult:
    elsewhere = run.home / "elsewhere"
    elsewhere.mkdir()
    run.file.symlink_to(elsewhere / "real.json")
    await run.sign_in()
    async with run.engine() as engine:
        result = await run.result_of(engine, engine.refresh)
        is_in_target = run.file.is_symlink() and login_files(elsewhere) == ["real.json"]
    place = "in the file that the link leads to; the link stays"
    return result._replace(disk=checked(f"{result.disk}, {place}", is_in_target))


async def folder_named_auth_json(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    kept = run.home / "kept"

    def put_back() -> None:
        shutil.rmtree(run.file)
        kept.rename(run.file)

    async with run.engine() as engine:
        run.file.rename(kept)
        run.file.mkdir()
        (run.file / "letter").write_text("letter")
        return await run.result_of(
            engine,
            engine.refresh,
            repair=put_back,
            disk=lambda: checked("the folder, as it was", os.listdir(run.file) == ["letter"]),
        )


async def file_system_without_locks(run: ScenarioRun) -> ScenarioResult:
    with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))):
        await run.sign_in()
        async with run.engine() as engine:
            return await run.result_of(engine, engine.refresh)
