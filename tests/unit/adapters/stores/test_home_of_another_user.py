"""A home that belongs to another user or to a group: owners and modes stay as they were, and nobody is locked out."""

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from authstate import AuthEngine
from authstate.adapters.cli.main import main
from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.testing import FakeAuthority, make_tokens

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can give files to other users")
KEY = ApiKey.parse("sk-canary-key")
USER, OTHER = 4321, 4322


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owners(home: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in home.iterdir()}


async def save(home: Path, credentials: Credentials = KEY, disk: Disk | None = None) -> None:
    async with AuthJsonStore(home, disk=disk).locked() as held:
        await held.prepare()
        await held.save(credentials)


@needs_root
async def test_all_that_root_makes_in_the_home_of_a_user_belongs_to_that_user(home_of_user: Path) -> None:
    old = make_tokens(expires_in=-60.0)
    await save(home_of_user, old)
    async with AuthEngine(AuthJsonStore(home_of_user), FakeAuthority(old)) as engine:
        await engine.refresh()
        expected = {f"auth.json{tail}": (USER, USER) for tail in ("", ".authstate.lock", ".authstate.claims")}
        assert owners(home_of_user) == expected
        await engine.log_out()
    assert set(owners(home_of_user).values()) == {(USER, USER)}


AS_USER = """
import asyncio, os, sys, tempfile
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import make_tokens
async def main():
    with tempfile.TemporaryDirectory() as folder:  # what is imported late may not be readable for that user
        async with AuthJsonStore(folder).locked() as held:
            await held.save(make_tokens())
    uid, home, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.setgroups([int(group) for group in sys.argv[4:]])
    os.setgid(uid)
    os.setuid(uid)
    store = AuthJsonStore(home, lock_timeout=0.0)
    if what != "sign-in":
        assert await store.load() is not None
    async with store.locked() as held:
        await held.prepare()
        await held.save(make_tokens())
    assert await store.load() is not None
asyncio.run(main())
"""


async def as_user(home: Path, *, what: str = "refresh", user: int = USER, groups: tuple[int, ...] = ()) -> None:
    """Sign in or refresh as an ordinary user, in a process of its own."""
    command = [sys.executable, "-c", AS_USER, str(user), str(home), what, *map(str, groups)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()


@needs_root
async def test_after_root_did_anything_the_user_can_go_on(home_of_user: Path) -> None:
    old = make_tokens(expires_in=-60.0)
    await save(home_of_user, old)
    async with AuthEngine(AuthJsonStore(home_of_user), FakeAuthority(old)) as engine:
        await engine.refresh()
    await as_user(home_of_user)


@needs_root
@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_a_user_whom_an_earlier_version_locked_out_can_sign_in_again(
    is_signed_in: bool, home_of_user: Path
) -> None:
    """root's `status` left auth.json and the lock to root, mode 0600."""
    await save(home_of_user)
    for name in os.listdir(home_of_user):
        os.chown(home_of_user / name, 0, 0)
    if not is_signed_in:
        (home_of_user / "auth.json").unlink()
    await as_user(home_of_user, what="sign-in")
    assert set(owners(home_of_user).values()) == {(USER, USER)}


@needs_root
async def test_a_lock_of_root_does_not_keep_the_user_from_a_refresh(home_of_user: Path) -> None:
    await save(home_of_user)
    os.chown(home_of_user / "auth.json.authstate.lock", 0, 0)
    await as_user(home_of_user)


@needs_root
@pytest.mark.parametrize("stored", ["signed in", "expired", "nothing"])
def test_status_of_root_changes_nothing_in_the_home_of_a_user(
    stored: str, home_of_user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even what a process that was killed left there."""
    tokens = make_tokens(expires_in=-60.0 if stored == "expired" else 3600.0)
    if stored != "nothing":
        (home_of_user / "auth.json").write_bytes(encode(tokens, None))
        os.chown(home_of_user / "auth.json", USER, USER)
    (home_of_user / "auth.json.9.ff.tmp").write_text("left")
    before = owners(home_of_user), sorted(os.listdir(home_of_user))
    monkeypatch.setenv("CODEX_HOME", str(home_of_user))
    monkeypatch.setenv("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://127.0.0.1:1/never-asked")
    assert main(["status", "--json"]) == (1 if stored == "nothing" else 0)
    assert (owners(home_of_user), sorted(os.listdir(home_of_user))) == before
    shown = json.loads(capsys.readouterr().out)
    assert any("another user owns the home folder" in text for text in shown["warnings"]) == (stored == "expired")


@needs_root
@pytest.mark.parametrize("mode", [0o640, 0o660])
async def test_a_group_that_shares_a_home_keeps_its_access(mode: int, home_of_user: Path) -> None:
    """Owner, group and mode are those of the file that was replaced."""
    group = 4400
    await save(home_of_user)
    file = home_of_user / "auth.json"
    os.chown(home_of_user, USER, group)
    os.chown(file, USER, group)
    home_of_user.chmod(0o2770)
    file.chmod(mode)
    await save(home_of_user, make_tokens())
    assert (owners(home_of_user)["auth.json"], mode_of(file)) == ((USER, group), mode)


@needs_root
async def test_a_member_of_the_group_refreshes_and_the_owner_stays(home_of_user: Path) -> None:
    group = 4400
    await save(home_of_user)
    file = home_of_user / "auth.json"
    os.chown(home_of_user, USER, group)
    os.chown(file, USER, group)
    home_of_user.chmod(0o2770)
    file.chmod(0o660)
    await as_user(home_of_user, user=OTHER, groups=(group,))
    assert (owners(home_of_user)["auth.json"], mode_of(file)) == ((USER, group), 0o660)
    await as_user(home_of_user, user=USER, groups=(group,))
    lock = home_of_user / "auth.json.authstate.lock"
    assert (lock.stat().st_gid, mode_of(lock)) == (group, 0o660), "its owner shared it"
    lock.unlink()
    await as_user(home_of_user, user=OTHER, groups=(group,))
    assert (lock.stat().st_gid, mode_of(lock)) == (group, 0o660)
    await as_user(home_of_user, user=USER, groups=(group,))


@needs_root
async def test_what_cannot_be_given_back_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is in a container that may not change owners."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    home = tmp_path / "home"
    await save(home)
    file = home / "auth.json"
    os.chown(file, USER, USER)
    inode = file.stat().st_ino
    monkeypatch.setattr(os, "fchown", refused)
    await save(home, make_tokens())
    assert (owners(home)["auth.json"], file.stat().st_ino) == ((USER, USER), inode)
    assert not any(name.endswith(".tmp") for name in os.listdir(home))
