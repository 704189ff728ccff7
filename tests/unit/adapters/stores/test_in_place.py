"""An auth.json that cannot be replaced: it is written in place, and a crash during the write loses nothing."""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.mounted_disk import MountedDisk

from authstate import AuthEngine, AuthState
from authstate.adapters.stores.auth_json_format import encode, is_json_object
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.in_place import InPlaceWriter, PendingWrite, pending_paths
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import RefreshDeadReason, StoreBusy, StoreUnavailable
from authstate.testing import FakeAuthority, make_tokens

fcntl = pytest.importorskip("fcntl", reason="only Unix has these locks")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="mounts and locks are those of Unix")
KEY = ApiKey.parse("sk-canary-key")


class Stopped(Exception):
    """Stands for the end of the process."""


class StoppingDisk(MountedDisk):
    """A disk on which auth.json is mounted, and a write in place ends at a step.

    Args:
        stop_at: the step that raises `Stopped`: "keep", "overwrite", "amid", "sync" or "forget". "amid" is halfway
            through the overwrite. By default no step raises.
    """

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at
        self.steps: list[str] = []
        self.before_overwrite: Callable[[], None] = lambda: None

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.stop_at:
            raise Stopped

    def remove(self, path: str) -> None:
        if path.endswith(".pending"):
            self._step("forget")
        super().remove(path)

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        self._step("keep")
        super().publish(path, data, temporary)

    def overwrite(self, path: str, data: bytes) -> None:
        self._step("overwrite")
        self.before_overwrite()
        if self.stop_at == "amid":
            with open(path, "r+b") as file:
                file.write(data[: len(data) // 2])
            raise Stopped
        super().overwrite(path, data)

    def sync(self, path: str) -> None:
        if path.endswith("auth.json"):
            self._step("sync")
        super().sync(path)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


async def save(store: AuthJsonStore, credentials: Credentials) -> None:
    async with store.locked() as held:
        await held.prepare()
        await held.save(credentials)


@pytest.mark.parametrize("stop_at", ["keep", "overwrite", "amid", "sync", "forget"])
async def test_a_process_that_dies_at_any_step_leaves_the_old_or_the_new(stop_at: str, home: Path) -> None:
    """From the moment that the new tokens are kept, they are not lost."""
    old, new = make_tokens(now=1_800_000_000.0), make_tokens(now=1_800_000_001.0)
    await save(AuthJsonStore(home), old)
    inode = (home / "auth.json").stat().st_ino
    with pytest.raises(Stopped):
        await save(AuthJsonStore(home, disk=StoppingDisk(stop_at)), new)
    store = AuthJsonStore(home, disk=MountedDisk())
    async with store.locked() as held:
        assert await held.load() == (old if stop_at == "keep" else new)
    assert await AuthJsonStore(home).load() == (old if stop_at == "keep" else new)
    assert (home / "auth.json").stat().st_ino == inode
    assert sorted(os.listdir(home)) == ["auth.json", "auth.json.authstate.lock"]


@pytest.mark.parametrize("stop_at", ["overwrite", "amid"])
async def test_the_next_look_finishes_a_write_that_was_cut_short(stop_at: str, home: Path) -> None:
    old, new = make_tokens(now=1_800_000_000.0), make_tokens(now=1_800_000_001.0)
    await save(AuthJsonStore(home), old)
    with pytest.raises(Stopped):
        await save(AuthJsonStore(home, disk=StoppingDisk(stop_at)), new)
    assert await AuthJsonStore(home).load() == new


async def test_the_order_of_a_write_in_place_is_durable(home: Path) -> None:
    await save(AuthJsonStore(home), KEY)
    disk = StoppingDisk()
    await save(AuthJsonStore(home, disk=disk), make_tokens())
    assert disk.steps == ["keep", "overwrite", "sync", "forget"]


@pytest.mark.parametrize("mode", [0o644, 0o666])
async def test_a_write_in_place_makes_the_file_private_before_the_tokens_are_in_it(mode: int, home: Path) -> None:
    await save(AuthJsonStore(home), KEY)
    file = home / "auth.json"
    file.chmod(mode)
    modes: list[int] = []
    write = os.write

    def watch(handle: int, data: bytes) -> int:
        modes.append(os.fstat(handle).st_mode & 0o777)
        return write(handle, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", watch)
        Disk().overwrite(str(file), encode(make_tokens(), None))
    assert set(modes) == {0o600}
    await save(AuthJsonStore(home, disk=MountedDisk()), KEY)
    assert file.stat().st_mode & 0o777 == 0o600


async def test_what_another_program_stored_since_is_not_undone(home: Path) -> None:
    old, new, theirs = (make_tokens(now=1_800_000_000.0 + number) for number in range(3))
    await save(AuthJsonStore(home), old)
    with pytest.raises(Stopped):
        await save(AuthJsonStore(home, disk=StoppingDisk("overwrite")), new)
    (home / "auth.json").write_bytes(encode(theirs, None))
    await save(AuthJsonStore(home, disk=MountedDisk()), KEY)
    assert await AuthJsonStore(home).load() == KEY
    assert not Path(pending_paths(str(home / "auth.json"))[0]).exists()


async def test_a_sign_out_forgets_a_write_that_was_cut_short(home: Path) -> None:
    await save(AuthJsonStore(home), make_tokens(now=1_800_000_000.0))
    store = AuthJsonStore(home, disk=MountedDisk())
    async with store.locked() as held:
        pending = Path(pending_paths(str(home / "auth.json"))[0])
        pending.write_bytes(msgspec.json.encode(PendingWrite(b"", encode(make_tokens(), None))))
        await held.delete()
        assert await held.load() is None
    assert not pending.exists()
    assert (home / "auth.json").read_bytes() == b"{}\n"
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        assert engine.session.state is AuthState.LOGGED_OUT
        assert engine.store_fault is None


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b'{"before": 1}'])
async def test_a_pending_write_that_cannot_be_understood_is_dropped(content: bytes, home: Path) -> None:
    await save(AuthJsonStore(home), KEY)
    pending = Path(pending_paths(str(home / "auth.json"))[0])
    pending.write_bytes(content)
    assert await AuthJsonStore(home).load() == KEY
    assert not pending.exists()


async def test_a_preparation_gives_its_space_back(home: Path) -> None:
    await save(AuthJsonStore(home), KEY)
    before = (home / "auth.json").read_bytes()
    async with AuthJsonStore(home, disk=MountedDisk()).locked() as held:
        await held.prepare()
        await held.prepare()
        assert (home / "auth.json").stat().st_size >= len(before) + 16 * 1024
        assert is_json_object((home / "auth.json").read_bytes())
        assert await held.load() == KEY
    assert (home / "auth.json").read_bytes() == before


async def test_what_another_program_appends_is_not_cut_off(home: Path) -> None:
    await save(AuthJsonStore(home), KEY)
    file = InPlaceWriter(str(home / "auth.json"), Disk())
    file.reserve(100)
    theirs = encode(make_tokens(), None)
    (home / "auth.json").write_bytes(theirs)
    file.discard()
    assert (home / "auth.json").read_bytes() == theirs


async def test_a_rename_that_fails_although_it_was_prepared_costs_no_token(home: Path) -> None:
    await save(AuthJsonStore(home), make_tokens(now=1_800_000_000.0))
    disk = StoppingDisk()
    disk.check_replaceable = lambda target: None
    new = make_tokens(now=1_800_000_001.0)
    await save(AuthJsonStore(home, disk=disk), new)
    assert await AuthJsonStore(home).load() == new
    assert "overwrite" in disk.steps


async def test_a_reader_of_a_file_that_is_being_written_never_takes_a_part_for_a_login(home: Path) -> None:
    path = home / "auth.json"
    old, new = encode(make_tokens(now=1_800_000_000.0), None), encode(make_tokens(now=1_800_000_001.0), None)
    path.write_bytes(old)
    seen: list[bytes] = []
    write, truncate = os.write, os.ftruncate

    def watch(handle: int, data: bytes) -> int:
        done = write(handle, data)
        seen.append(path.read_bytes())
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", watch)
        patch.setattr(os, "ftruncate", lambda handle, size: (seen.append(path.read_bytes()), truncate(handle, size)))
        Disk().overwrite(str(path), new)
    assert [is_json_object(data) for data in seen[:-1]] == [False] * (len(seen) - 1)
    assert seen[-1] == path.read_bytes() == new


class ReadOnlyFoldersDisk(StoppingDisk):
    """A disk on which the home and other folders are read-only, except for auth.json."""

    def __init__(self, home: Path, *closed: Path) -> None:
        super().__init__()
        self.closed = (str(home), *map(str, closed))

    def is_not_replaceable(self, target: str) -> bool:
        return target.startswith(self.closed)

    def create(self, path: str) -> None:
        if path.startswith(self.closed):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        super().create(path)


@pytest.mark.parametrize("only", ["state", "temporary"])
async def test_what_cannot_be_beside_auth_json_is_in_a_folder_of_the_user(
    only: str, home: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims on tokens that were sent, and what a write in place would lose if it were cut short."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    old = make_tokens(expires_in=-60.0)
    await save(AuthJsonStore(home), old)
    disk = ReadOnlyFoldersDisk(home, *([state] if only == "temporary" else []))
    kept: list[str] = []
    disk.before_overwrite = lambda: kept.extend(str(path) for path in tmp_path.rglob("*.pending"))
    async with AuthEngine(AuthJsonStore(home, disk=disk), FakeAuthority(old)) as engine:
        await engine.refresh()
        assert await AuthJsonStore(home).load() == engine.session.credentials
    folder = state / "authstate" if only == "state" else tmp_path / "temporary" / f"authstate-{os.geteuid()}"
    assert [os.path.dirname(path) for path in kept] == [str(folder)]
    assert [path.suffix for path in folder.iterdir()] == [".claims"]
    assert folder.stat().st_mode & 0o777 == 0o700
    [claim] = json.loads(next(folder.iterdir()).read_bytes())
    for store in (AuthJsonStore(home, disk=disk), AuthJsonStore(home)):
        assert await store.claim_on(claim["fingerprint"]) is not None
    async with AuthJsonStore(home).locked() as held:
        await held.record(RefreshClaim("ab" * 16, RefreshClaimState.DEAD, 1.0, reason=RefreshDeadReason.REVOKED))
    assert list(folder.iterdir()) == []
    assert await AuthJsonStore(home).claim_on(claim["fingerprint"]) is not None, "nothing that was known is lost"


async def test_where_no_claim_can_be_kept_no_token_is_sent(
    home: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("authstate.adapters.stores.companion_files._is_private", lambda folder: False)
    old = make_tokens(expires_in=-60.0)
    await save(AuthJsonStore(home), old)
    issuer = FakeAuthority(old)
    async with AuthEngine(AuthJsonStore(home, disk=ReadOnlyFoldersDisk(home)), issuer) as engine:
        with pytest.raises(StoreUnavailable, match=r"auth\.json\.authstate\.claims: read-only file system"):
            await engine.refresh()
    assert issuer.sent == []


@pytest.mark.parametrize("mode", [0o777, 0o750])
async def test_a_folder_that_others_can_enter_is_left_alone(mode: int, home: Path, state: Path) -> None:
    """Somebody else may have put a pending write there: it is neither believed nor added to."""
    await save(AuthJsonStore(home), KEY)
    [_, place, *_] = pending_paths(str(home / "auth.json"))
    Path(place).parent.mkdir(parents=True)
    Path(place).parent.chmod(mode)
    Path(place).write_bytes(msgspec.json.encode(PendingWrite(encode(KEY, None), encode(make_tokens(), None))))
    assert place not in pending_paths(str(home / "auth.json"))
    await save(AuthJsonStore(home, disk=ReadOnlyFoldersDisk(home)), KEY)
    assert await AuthJsonStore(home).load() == KEY
    assert os.listdir(Path(place).parent) == [os.path.basename(place)]


IN_A_CONTAINER = """
import asyncio, os, subprocess, sys
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import make_tokens
async def main():
    outside, home, number = sys.argv[1:]
    subprocess.run(["mount", "--bind", outside, home + "/auth.json"], check=True)
    print("mounted", flush=True)
    for _ in range(10):
        async with AuthJsonStore(home).locked() as held:
            old = await held.load()
            await held.prepare()
            from authstate.engine.model.credentials import ApiKey
            await held.save(ApiKey.parse("sk-" + str(int(old.key.reveal()[3:]) + 1)))
asyncio.run(main())
"""


def private_mounts() -> list[str]:
    """The command that gives a program mounts of its own; skips where this user may have none."""
    command = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root has mounts of its own here")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives nobody mounts of his own")
    return command


REPLACED_OUTSIDE = """
import asyncio, os, subprocess, sys
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import StoreUnavailable
async def main():
    outside, home, _ = sys.argv[1:]
    subprocess.run(["mount", "--bind", outside, home + "/auth.json"], check=True)
    with open(outside + ".new", "w") as file:
        file.write("{}")
    os.replace(outside + ".new", outside)
    async with AuthJsonStore(home).locked() as held:
        try:
            await held.prepare()
        except StoreUnavailable as fault:
            assert "restart the container" in str(fault), fault
        else:
            raise AssertionError("the new tokens would be lost with the container")
asyncio.run(main())
"""


async def test_a_mounted_file_that_was_replaced_outside_is_found_out_before_a_token_is_spent(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside.json", tmp_path / "home"
    outside.write_bytes(encode(KEY, None))
    home.mkdir()
    (home / "auth.json").touch()
    command = [*private_mounts(), sys.executable, "-c", REPLACED_OUTSIDE, str(outside), str(home), "0"]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()


async def test_containers_that_mount_one_file_exclude_each_other(tmp_path: Path) -> None:
    """No folder is common to them, so the lock on the file itself is what counts."""
    outside = tmp_path / "outside.json"
    outside.write_bytes(encode(ApiKey.parse("sk-0"), None))
    inode, command = outside.stat().st_ino, private_mounts()

    def run_in_a_container(number: int) -> "subprocess.CompletedProcess[bytes]":
        home = tmp_path / f"home{number}"
        home.mkdir()
        (home / "auth.json").touch()
        program = [sys.executable, "-c", IN_A_CONTAINER, str(outside), str(home), str(number)]
        return subprocess.run([*command, *program], capture_output=True, timeout=200)

    ended = await asyncio.gather(*(asyncio.to_thread(run_in_a_container, number) for number in range(3)))
    assert [process.stderr for process in ended if process.returncode] == []
    assert b'"sk-30"' in outside.read_bytes()
    assert outside.stat().st_ino == inode


async def test_a_program_that_renames_and_one_that_cannot_exclude_each_other(home: Path) -> None:
    """One locks the lock file and the file; the other may not open the lock file."""

    class NoLockFile(Disk):
        def lock(self, path: str):  # type: ignore[no-untyped-def]
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        def is_not_replaceable(self, target: str) -> bool:
            return True

    await save(AuthJsonStore(home), KEY)
    other = AuthJsonStore(home, disk=NoLockFile(), lock_timeout=0.0)
    async with AuthJsonStore(home).locked() as held:
        for _ in range(2):
            with pytest.raises(StoreBusy):
                await other.locked().__aenter__()
            await held.save(KEY)
    async with other.locked():
        with pytest.raises(StoreBusy):
            await AuthJsonStore(home, lock_timeout=0.0).locked().__aenter__()
    async with AuthJsonStore(home, lock_timeout=0.0).locked():
        pass


async def test_a_lock_that_keeps_readers_out_is_not_held(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is on a Windows share."""
    await save(AuthJsonStore(home), KEY)
    real, kept_out = fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("auth.json"):
            kept_out.append(how)
        real(handle, how)

    def opened(*args: object, **options: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux names open files")
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr("authstate.adapters.stores.os_locks.open", opened, raising=False)
    async with AuthJsonStore(home).locked():
        assert kept_out
        monkeypatch.undo()
        handle = os.open(home / "auth.json", os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


@pytest.mark.parametrize(
    ("current", "is_cut_short"),
    [
        (b'{"a": "old"}', True),
        (b'{"a": "old"}   ', True),
        (b'{"a": "new"}', False),
        (b'{"a": "new"}   ', False),
        (b'{"a": "nld"}', True),
        (b'{"a": "xyz"}', False),
        (b'{"a": "ne', True),
        (b"", True),
        (b'!"a": "new"}', True),
    ],
)
def test_what_a_crash_left_is_told_from_what_another_program_stored(current: bytes, is_cut_short: bool) -> None:
    assert PendingWrite(b'{"a": "old"}', b'{"a": "new"}').is_incomplete(current) is is_cut_short


MOUNTED = """
import subprocess, sys
from authstate.adapters.stores import file_ownership
path, folder = sys.argv[1:]
assert not file_ownership.is_mount_point(path)
subprocess.run(["mount", "--bind", path, path], check=True)
assert file_ownership.is_mount_point(path)
file_ownership._mount_of = lambda path: None
assert not file_ownership.is_mount_point(path), "the same device"
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
open(folder + "/other", "w").close()
subprocess.run(["mount", "--bind", folder + "/other", path], check=True)
assert file_ownership.is_mount_point(path), "another device"
"""


def test_a_mounted_file_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    command = [*private_mounts(), sys.executable, "-c", MOUNTED, str(tmp_path / "file"), str(tmp_path / "folder")]
    ended = subprocess.run(command, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()
