"""Faults with an auth.json that is a mount point: it cannot be replaced, only written in place."""

import errno
import os
from pathlib import Path

import msgspec
from faults.catalogue import IN_PLACE
from faults.scenario_run import ScenarioResult, ScenarioRun, checked
from faults.simulated_disks import ReadOnlyFolderDisk, UnwritableMountedDisk
from support.mounted_disk import MountedDisk

from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.in_place import PendingWrite, pending_paths


async def file_mounted(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    if not run.mount_file():
        run.disk = MountedDisk()
    async with run.engine() as engine:
        return await run.result_in_place(engine)


async def read_only_container(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    if not run.mount_file() or not run.mount_home_read_only():
        run.disk = ReadOnlyFolderDisk()
    async with run.engine() as engine:
        return await run.result_in_place(engine)


async def file_mounted_during_the_refresh(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    disk = run.disk = Disk()
    before = run.file.stat().st_ino

    def mount() -> None:
        if not run.mount_file():
            disk.__class__ = MountedDisk

    def content() -> str:
        is_new = run.stored_refresh_token() in run.issuer.live
        return checked(IN_PLACE, is_new and run.file.stat().st_ino == before)

    async with run.engine() as engine:
        return await run.result_of(engine, lambda: run.refresh_with_change(engine, mount), disk=content)


async def file_mounted_read_only(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    if not run.mount_file("ro"):
        run.disk = UnwritableMountedDisk(errno.EROFS)

    disk = run.disk

    def repair() -> None:
        if isinstance(disk, UnwritableMountedDisk):
            disk.is_broken = False
        else:
            run.unmount_file()

    async with run.engine() as engine:
        return await run.result_of(engine, engine.refresh, repair=repair)


async def file_mounted_on_full_disk(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    disk = run.disk = UnwritableMountedDisk(errno.ENOSPC)
    async with run.engine() as engine:
        return await run.result_of(engine, engine.refresh, repair=lambda: setattr(disk, "is_broken", False))


async def killed_during_write_in_place(run: ScenarioRun) -> ScenarioResult:
    await run.sign_in()
    theirs = run.issuer.issue()
    text = "the new tokens of the program that was killed"
    new, old = encode(theirs, None), run.file.read_bytes()
    async with run.engine() as engine:
        Path(pending_paths(str(run.file))[0]).write_bytes(msgspec.json.encode(PendingWrite(old, new)))
        run.file.write_bytes(new[: len(new) // 2] + old[len(new) // 2 :])
        result = await run.result_of(engine, engine.refresh, disk=lambda: run.describe_if_stored(theirs, text))
    is_clean = sorted(os.listdir(run.home)) == ["auth.json", "auth.json.authstate.lock"]
    return result._replace(disk=checked(result.disk, is_clean))
