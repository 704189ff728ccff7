"""`AuthJsonStore`: complete files, links, leftovers, and clear errors for each fault of a disk."""

import asyncio
import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.failing_disk import FailingDisk
from support.fake_keyring import no_keyring

from authstate import AuthEngine, AuthState
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.file_writer import HeldAuthJson
from authstate.adapters.stores.keyring import AutoStore
from authstate.adapters.stores.os_locks import DiskLock
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreBusy, StoreUnavailable
from authstate.engine.ports import CredentialStore
from authstate.testing import FakeAuthority, make_tokens

__all__ = ["no_keyring"]

KEY = ApiKey.parse("sk-canary-key")
posix_only = pytest.mark.skipif(os.name == "nt", reason="file modes and symbolic links of POSIX")


class FaultyDisk(Disk):
    """A disk on which a step fails as often as `fail` says. It records all steps."""

    def __init__(self) -> None:
        self.faults: dict[str, list[OSError]] = {}
        self.steps: list[str] = []
        self.before: Callable[[str], None] = lambda step: None

    def fail(self, step: str, number: int, times: int = 1) -> None:
        self.faults.setdefault(step, []).extend(OSError(number, os.strerror(number)) for _ in range(times))

    def _step(self, name: str) -> None:
        self.before(name)
        self.steps.append(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)

    def read(self, path: str, limit: int) -> bytes:
        self._step("read")
        return super().read(path, limit)

    def create(self, path: str) -> None:
        self._step("create")
        super().create(path)

    def write(self, path: str, data: bytes) -> None:
        self._step("write")
        super().write(path, data)

    def sync(self, path: str) -> None:
        self._step("sync")
        super().sync(path)

    def rename(self, source: str, target: str) -> None:
        self._step("rename")
        super().rename(source, target)

    def sync_folder(self, folder: str) -> None:
        self._step("sync_folder")
        super().sync_folder(folder)

    def remove(self, path: str) -> None:
        self._step("remove")
        super().remove(path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temporary(home: Path) -> list[str]:
    return sorted(name for name in os.listdir(home) if name.endswith(".tmp"))


@posix_only
async def test_modes_are_for_this_user_only(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    async with AuthJsonStore(home).locked() as held:
        await held.prepare()
        (reserved,) = temporary(home)
        assert mode_of(home / reserved) == 0o600
        assert (home / reserved).stat().st_size >= 16 * 1024
        await held.save(KEY)
    assert (mode_of(home), mode_of(home / "auth.json")) == (0o700, 0o600)
    assert mode_of(home / "auth.json.authstate.lock") == 0o600
    (home / "auth.json").chmod(0o644)
    async with AuthJsonStore(home).locked() as held:
        await held.save(KEY)
    assert mode_of(home / "auth.json") == 0o600
    assert temporary(home) == []


async def test_a_save_keeps_unknown_members_even_those_written_after_prepare(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text('{"OPENAI_API_KEY": "sk-old", "first": 1}')
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.prepare()
        file.write_text('{"OPENAI_API_KEY": "sk-old", "second": 2}')
        await held.save(KEY)
        assert json.loads(file.read_bytes())["second"] == 2
        await held.prepare()
        file.write_text('{"OPENAI_API')
        await held.save(KEY)
    assert json.loads(file.read_bytes())["second"] == 2


async def test_a_short_record_leaves_nothing_of_a_long_one(tmp_path: Path) -> None:
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(KEY)
    assert (tmp_path / "auth.json").read_bytes().endswith(b'"sk-canary-key"\n}')


@posix_only
async def test_a_symbolic_link_stays_and_its_target_is_rewritten(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / "auth.json").symlink_to(elsewhere / "real.json")
    store = AuthJsonStore(home)
    assert await store.load() is None
    async with store.locked() as held:
        await held.save(KEY)
        with pytest.raises(StoreBusy, match=r"real\.json\.authstate\.lock is held by"):
            await AuthJsonStore(home, lock_timeout=0).locked().__aenter__()
    assert (home / "auth.json").is_symlink()
    assert await store.load() == KEY
    assert sorted(os.listdir(elsewhere)) == ["real.json", "real.json.authstate.lock"]
    async with store.locked() as held:
        await held.delete()
    assert await store.load() is None


@posix_only
@pytest.mark.parametrize("content", ["precious", '{"name": "package"}', "[]"])
async def test_what_a_symbolic_link_leads_to_is_left_alone_unless_it_is_a_login(content: str, tmp_path: Path) -> None:
    notes, home = tmp_path / "notes", tmp_path / "home"
    home.mkdir()
    notes.write_text(content)
    (home / "auth.json").symlink_to(notes)
    store = AuthJsonStore(home)
    async with store.locked() as held:
        with pytest.raises(StoreUnavailable, match=r"auth\.json is a symbolic link to .*notes, which is not a login"):
            await held.delete()
        with pytest.raises(StoreUnavailable, match="remove the link"):
            await held.prepare()
    assert notes.read_text() == content


@posix_only
@pytest.mark.parametrize(
    "content", ["", "{}", '{"auth_mode": "api', '\ufeff{"tokens": nu', '{"personal_access_token": 1}']
)
async def test_a_symbolic_link_to_a_login_or_a_part_of_one_can_be_removed(content: str, tmp_path: Path) -> None:
    real, home = tmp_path / "real", tmp_path / "home"
    home.mkdir()
    real.write_text(content)
    (home / "auth.json").symlink_to(real)
    async with AuthJsonStore(home).locked() as held:
        await held.delete()
    assert not real.exists()


@posix_only
@pytest.mark.parametrize("is_linked", [False, True])
async def test_what_is_no_file_is_not_removed(is_linked: bool, tmp_path: Path) -> None:
    """auth.json may lead to /dev/null, so that nothing is stored."""
    home, pipe = tmp_path / "home", tmp_path / "pipe"
    home.mkdir()
    os.mkfifo(pipe if is_linked else home / "auth.json", 0o666)
    if is_linked:
        (home / "auth.json").symlink_to(pipe)
    store = AuthJsonStore(home)
    assert store.findings() == [], "its mode is nobody's fault"
    async with store.locked() as held:
        with pytest.raises(
            StoreUnavailable, match=r"cannot remove .*: not a regular file: move what has this name away"
        ):
            await held.delete()
    assert stat.S_ISFIFO(os.stat(home / "auth.json").st_mode)


async def test_leftovers_of_dead_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("auth.json.99.0a1b.tmp", "auth.json.7.ff.tmp", "auth.json.tmp", "auth.json.backup.tmp", "x.1.2.tmp"):
        (tmp_path / name).write_text("canary")
    async with AuthJsonStore(tmp_path).locked():
        assert temporary(tmp_path) == ["auth.json.backup.tmp", "auth.json.tmp", "x.1.2.tmp"]


async def test_the_first_look_removes_leftovers_unless_somebody_is_using_them(tmp_path: Path) -> None:
    leftover = tmp_path / "auth.json.99.0a1b.tmp"
    leftover.write_text("canary")
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.prepare()
        before = temporary(tmp_path)
        assert len(before) == 1
        await AuthJsonStore(tmp_path).load()
        assert temporary(tmp_path) == before
    leftover.write_text("canary")
    store = AuthJsonStore(tmp_path)
    assert await store.load() is None
    assert temporary(tmp_path) == []
    leftover.write_text("canary")
    await store.load()
    assert temporary(tmp_path) == [leftover.name], "one look at the folder is enough"


@pytest.mark.parametrize("fault", ["list_folder", "lock"])
async def test_leftovers_that_cannot_be_removed_are_no_obstacle(fault: str, tmp_path: Path) -> None:
    class Stubborn(Disk):
        def list_folder(self, folder: str) -> list[str]:
            if fault == "list_folder":
                raise PermissionError(errno.EACCES, "denied")
            return super().list_folder(folder)

        def lock(self, path: str) -> DiskLock:
            raise PermissionError(errno.EACCES, "denied")

    (tmp_path / "auth.json.99.0a1b.tmp").write_text("canary")
    assert await AuthJsonStore(tmp_path, disk=Stubborn()).load() is None
    assert temporary(tmp_path) == ["auth.json.99.0a1b.tmp"]


@posix_only
def test_one_leftover_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(b'{"a": "old"}')
    for number in (1, 2):
        Path(f"{file}.{number}.ff.tmp").touch()
    [first, _] = sorted(os.listdir(tmp_path))[1:]
    disk = FailingDisk(remove=first)
    disk.list_folder = lambda folder: sorted(os.listdir(folder))
    HeldAuthJson.remove_leftovers(SimpleNamespace(_target=str(file), _disk=disk))  # type: ignore[arg-type]
    assert sorted(os.listdir(tmp_path)) == ["auth.json", first]


async def test_a_home_that_is_a_file_and_a_file_that_is_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    store = AuthJsonStore(home)
    with pytest.raises(StoreUnavailable, match="set CODEX_HOME to a folder") as caught:
        await store.load()
    assert str(home) in str(caught.value)
    with pytest.raises(StoreUnavailable, match="set CODEX_HOME to a folder"):
        await store.locked().__aenter__()
    (tmp_path / "auth.json").mkdir()
    store = AuthJsonStore(tmp_path)
    with pytest.raises(StoreUnavailable, match="is a directory"):
        await store.load()
    with pytest.raises(StoreUnavailable):
        async with store.locked() as held:
            await held.delete()
    with pytest.raises(StoreUnavailable):
        async with store.locked() as held:
            await held.save(KEY)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "give this user"),
        (errno.EROFS, "set CODEX_HOME"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, "see to the disk"),
        (errno.ENXIO, "move what has this name away"),
    ],
)
async def test_each_fault_names_the_file_and_what_to_do(tmp_path: Path, number: int, remedy: str) -> None:
    for step in ("read", "create", "write", "sync", "rename", "sync_folder", "remove"):
        disk, home = FaultyDisk(), tmp_path / step
        store = AuthJsonStore(home, disk=disk)
        async with store.locked() as held:
            await held.save(KEY)
            disk.fail(step, number)
            with pytest.raises(StoreUnavailable) as caught:
                await (held.delete() if step == "remove" else held.save(make_tokens()))
        assert str(home / "auth.json") in str(caught.value)
        assert remedy in str(caught.value) or step == "sync_folder"
        assert temporary(home) == []
        assert "eyJ" not in str(caught.value)
        if step != "sync_folder":
            assert await store.load() == KEY


async def test_a_full_disk_is_found_before_a_token_is_spent(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.fail("write", errno.ENOSPC)
    async with AuthJsonStore(tmp_path, disk=disk).locked() as held:
        with pytest.raises(StoreUnavailable, match="free some space"):
            await held.prepare()
        assert temporary(tmp_path) == []
        await held.prepare()
        assert len(temporary(tmp_path)) == 1
    assert temporary(tmp_path) == []


async def test_the_order_of_a_save_is_durable(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with AuthJsonStore(tmp_path, disk=disk).locked() as held:
        disk.steps.clear()
        await held.prepare()
        assert disk.steps == ["read", "create", "write", "sync"]
        disk.steps.clear()
        await held.save(KEY)
        assert disk.steps == ["read", "write", "sync", "rename", "sync_folder"]


@posix_only
async def test_a_save_and_a_sign_out_sync_what_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real calls: the new content before the rename, and the folder after a rename or removal."""
    synced: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append("folder" if is_folder(handle) else "file"), fsync(handle))
    )
    monkeypatch.setattr(os, "replace", lambda *names: (synced.append("replace"), replace(*names)))
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.prepare()
        synced.clear()
        await held.save(KEY)
        assert synced == ["file", "replace", "folder"]
        monkeypatch.setattr(os, "unlink", lambda name: (synced.append("unlink"), unlink(name)))
        synced.clear()
        await held.delete()
        assert synced == ["unlink", "folder"]


def is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


async def test_a_save_that_failed_can_be_repeated(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = AuthJsonStore(tmp_path, disk=disk)
    async with store.locked() as held:
        await held.prepare()
        disk.fail("rename", errno.EIO, times=2)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await held.save(KEY)
        await held.save(KEY)
    assert await store.load() == KEY


async def test_a_prepared_file_that_somebody_removed_costs_no_token(tmp_path: Path) -> None:
    store = AuthJsonStore(tmp_path)
    async with store.locked() as held:
        await held.prepare()
        for name in temporary(tmp_path):
            (tmp_path / name).unlink()
        await held.save(KEY)
    assert await store.load() == KEY


async def test_a_file_that_became_unreadable_after_prepare_costs_no_token(tmp_path: Path) -> None:
    disk = FaultyDisk()
    (tmp_path / "auth.json").write_text('{"mine": 1}')
    store = AuthJsonStore(tmp_path, disk=disk)
    async with store.locked() as held:
        await held.prepare()
        disk.fail("read", errno.EACCES)
        await held.save(KEY)
    assert json.loads((tmp_path / "auth.json").read_bytes())["mine"] == 1


async def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with AuthJsonStore(home).locked() as held:
        home.rename(tmp_path / "away")
        with pytest.raises(StoreUnavailable, match="the folder is gone"):
            await held.save(KEY)


@pytest.mark.usefixtures("no_keyring")
@pytest.mark.parametrize("kind", [AuthJsonStore, AutoStore])
@pytest.mark.parametrize("is_mount_point", [False, True])
async def test_a_home_that_is_gone_for_a_moment_is_no_logout(
    is_mount_point: bool, kind: Callable[[Path], CredentialStore], tmp_path: Path
) -> None:
    """A logout leaves the lock file. A folder that is moved away or not mounted takes it along."""
    home, tokens = tmp_path / "home", make_tokens()
    async with AuthJsonStore(home).locked() as held:
        await held.save(tokens)
    store = kind(home)
    async with AuthEngine(store, FakeAuthority()) as engine:
        await engine.follow()
        home.rename(tmp_path / "away")
        if is_mount_point:
            home.mkdir()
        with pytest.raises(StoreUnavailable, match="the folder is gone"):
            await store.load()
        assert (await engine.follow()).credentials == tokens
        if is_mount_point:
            home.rmdir()
        (tmp_path / "away").rename(home)
        assert await store.load() == tokens
        (home / "auth.json").unlink()
        assert (await engine.follow()).state is AuthState.LOGGED_OUT


async def test_a_home_that_is_gone_while_the_issuer_is_asked_costs_no_token(tmp_path: Path) -> None:
    home, tokens = tmp_path / "home", make_tokens()
    async with AuthJsonStore(home).locked() as held:
        await held.save(tokens)
    store, authority = AuthJsonStore(home), FakeAuthority(tokens)
    async with AuthEngine(store, authority) as engine:
        authority.hold()
        refresh = asyncio.ensure_future(engine.refresh())
        await authority.asked()
        home.rename(tmp_path / "away")
        authority.release()
        with pytest.raises(StoreUnavailable):
            await refresh
        (tmp_path / "away").rename(home)
        assert (await engine.refresh()).credentials == await store.load() != tokens
        assert len(authority.sent) == 1
