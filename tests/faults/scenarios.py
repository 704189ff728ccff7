"""Each fault of catalogue.py, made to happen to a person who is signed in."""

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from unittest import mock

import msgspec
from faults.catalogue import IN_PLACE, THEIRS
from faults.scenario_run import NOBODY, BrokenDisk, MountedDisk, Outcome, ReadOnlyDisk, ScenarioRun
from faults.scenario_run import as_root as being_root
from faults.test_bad_issuer import RESET, answer, issuing

from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.codec import decode, encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.in_place import PendingWrite, pending_paths
from authstate.adapters.stores.os_locks import DiskLock
from authstate.adapters.testing import FakeAuthority, ManualClock, make_tokens
from authstate.engine import AuthEngine, Authorization, RefreshSettings
from authstate.engine.clock import SystemClock
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable, PermanentRefreshError, RefreshDeadReason

LOCK = ".authstate.lock"
YEAR = 365 * 86_400.0
STUCK = """
import asyncio, sys
from authstate.adapters.stores.file import AuthJsonStore
async def main():
    async with AuthJsonStore(sys.argv[1]).locked():
        print("locked", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


async def disk_full(run: ScenarioRun) -> Outcome:
    if not run.mount(kilobytes=128):
        run.disk = BrokenDisk(errno.ENOSPC)
    await run.sign_in()
    filler = run.home / "filler"
    async with run.engine() as engine:
        if isinstance(run.disk, BrokenDisk):
            run.disk.is_broken = True
            return await run.outcome(engine, engine.refresh, heal=lambda: setattr(run.disk, "is_broken", False))
        fill(filler)
        return await run.outcome(engine, engine.refresh, heal=filler.unlink)


def fill(path: Path) -> None:
    """Write to a file until nothing fits on its disk."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC


async def read_only(run: ScenarioRun) -> Outcome:
    if not run.mount(kilobytes=128):
        run.disk = ReadOnlyDisk(errno.EROFS)
    await run.sign_in()

    def remount(mode: str) -> None:
        if isinstance(run.disk, BrokenDisk):
            run.disk.is_broken = mode == "ro"
        else:
            subprocess.run(["mount", "-o", f"remount,{mode}", str(run.home)], check=True)

    async with run.engine() as engine:
        remount("ro")
        return await run.outcome(engine, engine.refresh, heal=lambda: remount("rw"))


async def home_not_writable(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.home.chmod(0o500)
            return await in_place(run, engine)


async def in_place(run: ScenarioRun, engine: AuthEngine) -> Outcome:
    """A refresh that must keep the file itself."""
    before = run.file.stat().st_ino
    outcome = await run.outcome(engine, engine.refresh)
    return outcome._replace(disk=said(f"{outcome.disk}, written in place", run.file.stat().st_ino == before))


async def home_and_file_not_writable(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.file.chmod(0o400)
            run.home.chmod(0o500)

            def heal() -> None:
                run.home.chmod(0o700)
                run.file.chmod(0o600)

            return await run.outcome(engine, engine.refresh, heal=heal)


async def mounted_by_itself(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    if not run.mount_file():
        run.disk = MountedDisk()
    async with run.engine() as engine:
        return await in_place(run, engine)


async def read_only_container(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    if not run.mount_file() or not run.mount_home_read_only():
        run.disk = ReadOnlyFolderDisk()
    async with run.engine() as engine:
        return await in_place(run, engine)


class ReadOnlyFolderDisk(MountedDisk):
    """A folder that is read-only, and a file in it that is mounted by itself and can be written."""

    def lock(self, path: str) -> DiskLock:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def is_not_replaceable(self, target: str) -> bool:
        return True

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        if os.path.basename(path).startswith("auth.json"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        super().publish(path, data, temporary)


async def mounted_meanwhile(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    disk = run.disk = Disk()
    before = run.file.stat().st_ino

    def mount() -> None:
        if not run.mount_file():
            disk.__class__ = MountedDisk

    def left() -> str:
        tokens = make_sure_of(run)
        return said(IN_PLACE, tokens in run.issuer.live and run.file.stat().st_ino == before)

    run.issuer.hold()
    async with run.engine() as engine:

        async def refresh_meanwhile() -> None:
            refresh = asyncio.ensure_future(engine.refresh())
            await run.issuer.asked()
            mount()
            run.issuer.release()
            await refresh

        return await run.outcome(engine, refresh_meanwhile, disk=left)


def make_sure_of(run: ScenarioRun) -> str:
    """The refresh token that is stored."""
    found = decode(run.content() or b"", "").credentials
    assert isinstance(found, ChatgptTokens)
    return found.refresh_token.reveal()


async def mounted_read_only(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    if not run.mount_file("ro"):
        run.disk = UnwritableMountedDisk(errno.EROFS)

    disk = run.disk

    def heal() -> None:
        if isinstance(disk, UnwritableMountedDisk):
            disk.is_broken = False
        else:
            run.unmount_file()

    async with run.engine() as engine:
        return await run.outcome(engine, engine.refresh, heal=heal)


async def mounted_and_full(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    disk = run.disk = UnwritableMountedDisk(errno.ENOSPC)
    async with run.engine() as engine:
        return await run.outcome(engine, engine.refresh, heal=lambda: setattr(disk, "is_broken", False))


class UnwritableMountedDisk(MountedDisk):
    """A file that is mounted by itself, and cannot be written either."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_broken = True

    def reserve_space(self, path: str, size: int) -> int:
        if self.is_broken:
            raise OSError(self.number, os.strerror(self.number), path)
        return super().reserve_space(path, size)


async def killed_in_place(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    theirs = run.issuer.issue()
    new, old = encode(theirs, None), run.file.read_bytes()
    async with run.engine() as engine:
        Path(pending_paths(str(run.file))[0]).write_bytes(msgspec.json.encode(PendingWrite(old, new)))
        run.file.write_bytes(new[: len(new) // 2] + old[len(new) // 2 :])
        outcome = await run.outcome(engine, engine.refresh, disk=lambda: holds(run, theirs))
    is_over = sorted(os.listdir(run.home)) == ["auth.json", f"auth.json{LOCK}"]
    text = "the new tokens of the program that was killed"
    return outcome._replace(disk=said(text, outcome.disk == THEIRS and is_over))


async def sticky_folder(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        run.file.chmod(0o666)
        with being_root():
            run.home.chmod(0o1777)
        run.give(run.file, 0)
        run.give(run.home, 0)
        async with run.engine() as engine:
            outcome = await in_place(run, engine)
        is_owned = run.file.stat().st_uid == 0
    return outcome._replace(disk=said(f"{outcome.disk}; it belongs to its owner", is_owned))


async def planted(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.home.chmod(0o777)
            run.file.chmod(0o666)
            run.give(run.file, 1)
            return await run.outcome(engine, engine.refresh, heal=lambda: run.give(run.file, NOBODY))


async def as_root(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    async with run.engine() as engine:
        outcome = await run.outcome(engine, engine.refresh)
    owners = {path.stat().st_uid for path in run.home.iterdir()}
    text = f"{outcome.disk}; everything in the home belongs to that user"
    return outcome._replace(disk=said(text, owners == {run.home.stat().st_uid}))


async def lock_of_another_user(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        run.give(run.home / f"auth.json{LOCK}", 0)
        async with run.engine() as engine:
            return await run.outcome(engine, engine.refresh)


async def no_locks(run: ScenarioRun) -> Outcome:
    with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))):
        await run.sign_in()
        async with run.engine() as engine:
            return await run.outcome(engine, engine.refresh)


async def home_closed(run: ScenarioRun) -> Outcome:
    return await without_permission(run, 0o000)


async def without_permission(run: ScenarioRun, mode: int) -> Outcome:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.home.chmod(mode)
            return await run.outcome(engine, engine.refresh, heal=lambda: run.home.chmod(0o700))


async def owned_by_another_user(run: ScenarioRun) -> Outcome:
    with run.as_user():
        await run.sign_in()
        async with run.engine() as engine:
            run.give(run.file, 0)
            return await run.outcome(engine, engine.refresh, heal=lambda: run.give(run.file, NOBODY))


async def home_deleted(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    async with run.engine() as engine:
        shutil.rmtree(run.home)
        return await run.outcome(
            engine,
            engine.refresh,
            disk=lambda: said("nothing; the home is there again", logins_in(run.home) == []),
        )


async def symbolic_link(run: ScenarioRun) -> Outcome:
    elsewhere = run.home / "elsewhere"
    elsewhere.mkdir()
    run.file.symlink_to(elsewhere / "real.json")
    await run.sign_in()
    async with run.engine() as engine:
        outcome = await run.outcome(engine, engine.refresh)
        is_json_object = run.file.is_symlink() and logins_in(elsewhere) == ["real.json"]
    place = "in the file that the link leads to; the link stays"
    return outcome._replace(disk=said(f"{outcome.disk}, {place}", is_json_object))


async def a_folder(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    kept = run.home / "kept"

    def put_back() -> None:
        shutil.rmtree(run.file)
        kept.rename(run.file)

    async with run.engine() as engine:
        run.file.rename(kept)
        run.file.mkdir()
        (run.file / "letter").write_text("letter")
        return await run.outcome(
            engine,
            engine.refresh,
            heal=put_back,
            disk=lambda: said("the folder, as it was", os.listdir(run.file) == ["letter"]),
        )


async def stuck_process(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    clock = ManualClock()
    stuck = hold_the_lock(run.home)
    try:
        async with run.engine(clock=clock) as engine:

            async def refresh_while_a_minute_passes() -> None:
                refresh = asyncio.ensure_future(engine.refresh())
                await clock.elapse(61.0)
                await refresh

            outcome = await run.outcome(engine, refresh_while_a_minute_passes, heal=stuck.kill)
            named = [str(event) for event in run.heard if f"process {stuck.pid} " in str(event)]
            return outcome._replace(reads=said(outcome.reads, bool(named) or sys.platform != "linux"))
    finally:
        stuck.kill()
        stuck.communicate()


def hold_the_lock(home: Path) -> subprocess.Popen[bytes]:
    """A process that has the lock and does nothing more."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE_")}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", STUCK, str(home)], stdin=pipe, stdout=pipe, env=plain)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


async def half_a_file(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    whole = run.file.read_bytes()
    async with run.engine() as engine:
        run.file.write_bytes(whole[:100])
        return await run.outcome(
            engine,
            engine.refresh,
            heal=lambda: run.file.write_bytes(whole),
            disk=lambda: said("the half file, as it was", run.file.read_bytes() == whole[:100]),
        )


async def codex_rewrites_in_place(run: ScenarioRun) -> Outcome:
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

        return await run.outcome(engine, refresh_while_codex_writes, disk=lambda: holds(run, theirs))


async def codex_refreshes_at_once(run: ScenarioRun) -> Outcome:
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

        return await run.outcome(engine, refresh_while_codex_stores, disk=lambda: holds(run, theirs))


async def codex_spends_and_dies(run: ScenarioRun) -> Outcome:
    await run.sign_in(run.issuer.issue())
    run.codex_writes(run.tokens)
    return await spent_elsewhere(run)


async def a_copy_is_used(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    return await spent_elsewhere(run)


async def spent_elsewhere(run: ScenarioRun) -> Outcome:
    run.issuer.kill(RefreshDeadReason.EXHAUSTED)
    async with run.engine() as engine:
        outcome = await run.outcome(engine, engine.refresh)
        for _ in range(3):
            try:
                await engine.refresh()
            except PermanentRefreshError:
                continue
            raise AssertionError("a dead token came back to life")
        return outcome._replace(sent=len(run.issuer.sent))


async def killed_before_the_answer(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    await leave_a_claim(run)
    async with run.engine() as engine:
        refused = Authorization.of(engine.session)
        return await run.outcome(engine, lambda: engine.recover(refused))


async def killed_and_spent(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    await leave_a_claim(run)
    run.issuer.kill(RefreshDeadReason.EXHAUSTED)
    async with run.engine() as engine:
        refused = Authorization.of(engine.session)
        return await run.outcome(engine, lambda: engine.recover(refused))


async def leave_a_claim(run: ScenarioRun) -> None:
    """What a process leaves that is killed (SIGKILL) after it sent the refresh token."""
    claim = RefreshClaim(fingerprint_of(run.tokens.refresh_token)).after(RefreshClaimTrigger.CLAIM, SystemClock().now())
    async with run.store().locked() as held:
        await held.record(claim)


async def backup_restored(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    async with run.engine() as engine:
        await engine.refresh()
        run.codex_writes(run.tokens)
        return await run.outcome(engine, engine.refresh)


async def another_account(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    other = make_tokens(account_id="org-2")
    async with run.engine() as engine:
        run.codex_writes(other)
        return await run.outcome(engine, engine.refresh, disk=lambda: is_the_other_account(run, other))


async def another_account_that_is_followed(run: ScenarioRun) -> Outcome:
    await run.sign_in()
    other = make_tokens(account_id="org-2")
    async with run.engine() as engine:
        run.codex_writes(other)
        await engine.follow()
        return await run.outcome(engine, engine.authorization, disk=lambda: is_the_other_account(run, other))


async def no_refresh_token(run: ScenarioRun) -> Outcome:
    await run.sign_in(make_tokens(refresh_token="", expires_in=-60.0))
    async with run.engine() as engine:
        return await run.outcome(engine, engine.authorization)


async def no_refresh_token_yet_good(run: ScenarioRun) -> Outcome:
    await run.sign_in(make_tokens(refresh_token=""))
    async with run.engine() as engine:
        return await run.outcome(engine, engine.authorization)


async def signed_out_meanwhile(run: ScenarioRun) -> Outcome:
    return await while_the_issuer_is_asked(run, run.file.unlink, lambda: said("nothing", logins_in(run.home) == []))


async def another_account_meanwhile(run: ScenarioRun) -> Outcome:
    other = make_tokens(account_id="org-2")
    return await while_the_issuer_is_asked(
        run, lambda: run.codex_writes(other), lambda: is_the_other_account(run, other)
    )


async def while_the_issuer_is_asked(run: ScenarioRun, change: Callable[[], None], disk: Callable[[], str]) -> Outcome:
    """A program without the lock changes what is stored between our request and its answer."""
    await run.sign_in()
    run.issuer.hold()
    async with run.engine() as engine:

        async def refresh_meanwhile() -> None:
            refresh = asyncio.ensure_future(engine.refresh())
            await run.issuer.asked()
            change()
            run.issuer.release()
            await refresh

        return await run.outcome(engine, refresh_meanwhile, disk=disk)


async def clock_a_year_ahead(run: ScenarioRun) -> Outcome:
    true, wrong = ManualClock(), ManualClock()
    run.issuer = FakeAuthority(clock=true)
    run.tokens = run.issuer.issue()
    await run.sign_in()
    async with run.engine(clock=wrong) as engine:
        wrong.jump_wall(YEAR)

        async def many_requests() -> None:
            for _ in range(100):
                await engine.authorization()

        return await run.outcome(engine, many_requests)


async def clock_a_year_back(run: ScenarioRun) -> Outcome:
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

        return await run.outcome(engine, backend_refuses)


async def no_dns(run: ScenarioRun) -> Outcome:
    return await at_url(run, "https://issuer.invalid")


async def refused(run: ScenarioRun) -> Outcome:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return await at_url(run, f"http://127.0.0.1:{port}")


async def at_url(run: ScenarioRun, url: str) -> Outcome:
    await run.sign_in()
    settings = RefreshSettings(first_wait=0.0, total=0.0)
    authority = SwitchedAuthority(HttpTokenAuthority(url, "client", timeout=5.0))
    async with run.engine(authority, settings=settings) as engine:
        return await run.outcome(engine, engine.refresh, sent=lambda: 0, heal=lambda: authority.use(run.issuer))


async def reset(run: ScenarioRun) -> Outcome:
    return await answered(run, RESET)


async def answer_lost(run: ScenarioRun) -> Outcome:
    reused = answer("401 Unauthorized", b'{"error": {"code": "refresh_token_reused"}}')
    return await answered(run, RESET, later=reused)


async def half_an_answer(run: ScenarioRun) -> Outcome:
    return await answered(run, answer("200 OK", b'{"access_token": "abc', length=500))


async def too_many_requests(run: ScenarioRun) -> Outcome:
    return await answered(run, answer("429 Too Many Requests", b"{}", "Retry-After: 3600"))


async def unavailable_for_minutes(run: ScenarioRun) -> Outcome:
    return await answered(run, answer("503 Service Unavailable", b"{}"), calls=5)


async def answered(run: ScenarioRun, reply: bytes, calls: int = 1, later: bytes | None = None) -> Outcome:
    """The real client against an issuer that gives every request this answer, or only the first one. No real time
    passes in the waits.
    """
    await run.sign_in()
    clock = SkippingClock()
    async with issuing(reply, later) as issuer:
        authority = SwitchedAuthority(HttpTokenAuthority(f"http://127.0.0.1:{issuer.port}", "client", timeout=5.0))
        async with run.engine(authority, clock=clock, settings=RefreshSettings(), random=LongestWaits()) as engine:
            for _ in range(calls - 1):
                with suppress(IssuerUnavailable):
                    await engine.refresh()
                await clock.sleep(60.0)
            assert clock.monotonic() >= 60.0 * (calls - 1)
            heal = None if later else lambda: authority.use(run.issuer)
            return await run.outcome(engine, engine.refresh, sent=lambda: issuer.requests, heal=heal)


class SkippingClock:
    """A clock on which every wait is over at once, and counts."""

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
    """No luck with the jitter."""

    def random(self) -> float:
        return 1.0


class SwitchedAuthority:
    """A token endpoint that a test can replace while an engine uses it."""

    def __init__(self, authority: HttpTokenAuthority) -> None:
        self.use(authority)

    def use(self, authority: HttpTokenAuthority | FakeAuthority) -> None:
        self.refresh = authority.refresh
        self.revoke = authority.revoke


def holds(run: ScenarioRun, tokens: ChatgptTokens) -> str:
    return THEIRS if run.content() == encode(tokens, None) else "something else"


def is_the_other_account(run: ScenarioRun, other: ChatgptTokens) -> str:
    return "the other account" if holds(run, other) == THEIRS else "changed"


def logins_in(folder: Path) -> list[str]:
    """The files in a folder, but for those that authstate keeps beside a login."""
    return sorted(name for name in os.listdir(folder) if ".authstate." not in name)


def said(text: str, is_true: bool) -> str:
    return text if is_true else f"not so: {text}"
