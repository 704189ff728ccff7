"""The lock of a home: two paths to one home, an unusual lock file, forks, and file systems without locks."""

import asyncio
import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from authstate import AuthEngine, AuthState
from authstate.adapters.stores import home_lock, os_locks
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.home_lock import HomeLock, SaveRecord
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.stores.os_locks import DiskLock, FileLock
from authstate.engine.model.errors import StoreBusy, StoreUnavailable
from authstate.testing import FakeAuthority, ManualClock, make_tokens

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links, pipes and forks are those of Unix")
LOCK = "auth.json.authstate.lock"


async def is_free(home: str | Path) -> bool:
    try:
        async with AuthJsonStore(home, lock_timeout=0.0).locked():
            return True
    except StoreBusy:
        return False


@pytest.mark.parametrize("store", [AuthJsonStore, KeyringStore, AutoStore])
async def test_two_spellings_of_a_home_are_one_lock(
    store: Callable[[str | Path], AuthJsonStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home, target_is_directory=True)
    monkeypatch.chdir(home)
    async with store(link).locked():
        for spelling in (home, link, ".", f"{home}/../home", f"{link}/"):
            assert not await is_free(spelling)
    assert await is_free(home)


async def test_a_link_that_leads_elsewhere_by_the_time_the_lock_is_taken(tmp_path: Path) -> None:
    """Who waits for the lock of one file must not write another with it."""
    home, first, second = tmp_path / "home", tmp_path / "first.json", tmp_path / "second.json"
    home.mkdir()
    (home / "auth.json").symlink_to(first)

    class LinkMoves(Disk):
        """The link is set anew just before the lock is taken."""

        def lock(self, path: str) -> DiskLock:
            (home / "auth.json").unlink()
            (home / "auth.json").symlink_to(second)
            return super().lock(path)

    async with AuthJsonStore(home, disk=LinkMoves()).locked() as held:
        await held.save(make_tokens())
        assert sorted(os.listdir(tmp_path)) == [
            *("first.json.authstate.lock", "home", "second.json", "second.json.authstate.lock")
        ]
        first_lock = FileLock(str(tmp_path / "first.json.authstate.lock"))
        assert first_lock.acquire() is True, "it was given back"
        first_lock.release()


async def test_a_fork_takes_no_lock_with_it(tmp_path: Path) -> None:
    """A program forks while a refresh holds the lock: the child neither holds it nor gives it back."""
    async with AuthJsonStore(tmp_path).locked():
        begun, go_on = os.pipe(), os.pipe()
        if (child := os.fork()) == 0:
            os.write(begun[1], b"x")
            os.read(go_on[0], 1)
            os._exit(0)
        os.read(begun[0], 1)
        assert not await is_free(tmp_path)
    assert await is_free(tmp_path)
    os.write(go_on[1], b"x")
    await asyncio.to_thread(os.waitpid, child, 0)
    for end in (*begun, *go_on):
        os.close(end)


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="remove the symbolic link"):
        await is_free(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_lock_file_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    store = AuthJsonStore(tmp_path)
    saving = [sys.executable, "-c", SAVE, str(tmp_path)]
    saved = await asyncio.to_thread(subprocess.run, saving, timeout=60)
    assert saved.returncode == 0
    assert await store.load() is not None
    change = await store.last_change()
    assert change is not None and change.is_foreign


SAVE = """
import asyncio, sys
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import make_tokens
async def main():
    async with AuthJsonStore(sys.argv[1]).locked() as held:
        await held.save(make_tokens())
asyncio.run(main())
"""
SAVE_AND_DIE_WITHOUT_FILE_LOCKS = """
import asyncio, errno, fcntl, os, sys
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import make_tokens
def missing(*_):
    raise OSError(errno.ENOSYS, "no file locks here")
fcntl.flock = missing
async def main():
    async with AuthJsonStore(sys.argv[1]).locked() as held:
        await held.save(make_tokens())
        os._exit(7)
asyncio.run(main())
"""


@pytest.mark.filterwarnings("ignore:flock not supported")
async def test_without_file_locks_the_death_of_a_process_frees_its_lock_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the file's content says who holds it: a note of what was saved must not take its place."""
    import fcntl

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no file locks here")

    monkeypatch.setattr(fcntl, "flock", missing)
    dying = [sys.executable, "-W", "ignore", "-c", SAVE_AND_DIE_WITHOUT_FILE_LOCKS, str(tmp_path)]
    died = await asyncio.to_thread(subprocess.run, dying, timeout=60)
    assert died.returncode == 7
    assert (tmp_path / LOCK).exists()
    async with AuthJsonStore(tmp_path, lock_timeout=30.0).locked() as held:
        await held.save(make_tokens())
        assert not await is_free(tmp_path)
    assert await is_free(tmp_path)


def test_save_records_of_4096_bytes_are_read_and_longer_ones_are_ignored(tmp_path: Path) -> None:
    home, lock = HomeLock(str(tmp_path), Disk(), ManualClock(), 0.0), tmp_path / "auth.json.authstate.lock"
    data = msgspec.json.encode([SaveRecord("digest", 5.0, 7)])
    lock.write_bytes(b" " * (4096 - len(data)) + data)
    assert home.recent_saves() == [SaveRecord("digest", 5.0, 7)]
    lock.write_bytes(b" " * (4096 - len(data) + 1) + data)
    assert home.recent_saves() == []


async def test_a_lock_file_of_another_user_is_made_anew(tmp_path: Path) -> None:
    lock = tmp_path / "auth.json.authstate.lock"
    lock.write_text("root's")

    class Foreign(Disk):
        def lock(self, path: str) -> os_locks.DiskLock:
            if os.path.exists(path) and Path(path).read_text() == "root's":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return super().lock(path)

        def is_of_another_user(self, path: str) -> bool:
            return True

        def is_not_replaceable(self, target: str) -> bool:
            return False

    taken = await HomeLock(str(tmp_path), Foreign(), ManualClock(), 0.0).acquire(lambda lock: lock)
    assert lock.read_bytes() == b""
    taken.release()


def test_who_holds_a_lock_file_that_is_gone_is_not_known(tmp_path: Path) -> None:
    assert home_lock._pid_of(str(tmp_path / "gone"), []) is None
    assert home_lock._holder(str(tmp_path / "gone")) == "another process"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_without_locks_people_sign_in_refresh_and_sign_out(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker file excludes other processes instead, and nothing is printed."""
    import fcntl

    def missing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    tokens = make_tokens(expires_in=-60.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with AuthJsonStore(tmp_path).locked() as held:
            await held.prepare()
            await held.save(tokens)
        async with AuthEngine(AuthJsonStore(tmp_path), FakeAuthority(tokens)) as engine:
            await engine.refresh()
            assert engine.session.state is AuthState.CHATGPT
            change = await AuthJsonStore(tmp_path).last_change()
            assert change is not None
            assert not change.is_foreign
            async with AuthJsonStore(tmp_path).locked():
                with pytest.raises(StoreUnavailable, match="is held by"):
                    await AuthJsonStore(tmp_path, lock_timeout=0.0).locked().__aenter__()
            await engine.log_out()
    assert await AuthJsonStore(tmp_path).load() is None
    assert [name for name in os.listdir(tmp_path) if name.endswith(".soft")] == []
