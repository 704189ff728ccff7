"""Whose the files of a home are, with which modes they are written, and what other users are kept from."""

import asyncio
import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authstate.adapters.cli.main import main
from authstate.adapters.stores.codec import encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.stores.file_ownership import copy_ownership, give_to_owner_of_folder, mode_after
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.stores.permissions import findings, reason_to_refuse
from authstate.adapters.testing import FakeAuthority, make_tokens
from authstate.engine import AuthEngine, AuthState
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable

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


@pytest.fixture
def home_of_user() -> Iterator[Path]:
    """A home of an ordinary user, in which root signs in. Not in `tmp_path`: other users may not enter that."""
    with tempfile.TemporaryDirectory(prefix="authstate-owner-") as folder:
        os.chmod(folder, 0o755)
        home = Path(folder, "home")
        home.mkdir(mode=0o700)
        os.chown(home, USER, USER)
        yield home


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
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.testing import make_tokens
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


@pytest.mark.parametrize(
    ("mode", "folder", "after"),
    [
        (0o600, 0o700, 0o600),
        (0o400, 0o700, 0o600),
        (0o644, 0o755, 0o600),
        (0o666, 0o777, 0o660),
        (0o664, 0o755, 0o600),
        (0o664, 0o775, 0o660),
        (0o640, 0o750, 0o640),
        (0o660, 0o770, 0o660),
        (0o777, 0o700, 0o600),
        (0o770, 0o700, 0o660),
    ],
)
def test_modes_are_tightened(mode: int, folder: int, after: int) -> None:
    assert oct(mode_after(mode, folder)) == oct(after)


@needs_root
def test_root_gives_away_no_file_that_somebody_linked_into_the_home(home_of_user: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root's")
    precious.chmod(0o644)
    os.link(precious, home_of_user / "hard")
    (home_of_user / "soft").symlink_to(precious)
    give_to_owner_of_folder(str(home_of_user / "hard"))
    give_to_owner_of_folder(str(home_of_user / "soft"))
    (home_of_user / "auth.json").write_text("{}")
    os.chown(home_of_user / "auth.json", USER, USER)
    for name in ("hard", "soft"):
        with pytest.raises(OSError, match=r"in the place of|symbolic"):
            copy_ownership(str(home_of_user / name), str(home_of_user / "auth.json"))
    assert (precious.stat().st_uid, mode_of(precious)) == (0, 0o644)


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("create", lambda disk, path: disk.create(path)),
        ("write", lambda disk, path: disk.write(path, b"canary")),
        ("overwrite", lambda disk, path: disk.overwrite(path, b"canary")),
        ("sync", lambda disk, path: disk.sync(path)),
        ("write_lock_file", lambda disk, path: disk.write_lock_file(path, b"canary")),
        ("reserve_space", lambda disk, path: disk.reserve_space(path, 10)),
        ("release_space", lambda disk, path: disk.release_space(path, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_write_follows_a_symbolic_link(step: str, call: Callable[[Disk, str], object], tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("      ")
    link.symlink_to(precious)
    with pytest.raises(OSError, match=r"exists|symbolic"):
        call(Disk(), str(link))
    assert precious.read_text() == "      "


def test_a_sync_reaches_the_file_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "file"
    file.touch()
    Disk().sync(str(file))
    Disk().sync_folder(str(tmp_path))
    assert synced == [file.stat().st_ino, tmp_path.stat().st_ino]


async def test_a_save_and_a_sign_out_sync_what_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real calls: the new content before it gets its name, and the folder after each change of names."""
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


FINDINGS = {
    "nothing": (0o700, 0o600, []),
    "readable by the group": (0o750, 0o640, []),
    "writable by the group": (0o770, 0o660, []),
    "readable by all": (0o755, 0o644, ["file_readable_by_others"]),
    "writable by all": (0o755, 0o666, ["file_writable_by_others"]),
    "a home for all": (0o777, 0o600, ["home_writable_by_others"]),
    "a home and a file for all": (0o1777, 0o666, ["home_writable_by_others", "file_writable_by_others"]),
}


@pytest.mark.parametrize(("folder", "file", "codes"), FINDINGS.values(), ids=FINDINGS)
async def test_what_others_can_do_is_found_logged_and_shown(
    folder: int,
    file: int,
    codes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "home"
    await save(home, make_tokens())
    (home / "auth.json").chmod(file)
    home.chmod(folder)
    for store in (AuthJsonStore(home), KeyringStore(home), AutoStore(home)):
        assert [finding.code for finding in store.findings()] == codes
    store = AuthJsonStore(home)
    await store.load()
    await store.load()
    logged = [record.getMessage() for record in caplog.records if str(home) in record.getMessage()]
    assert logged == [finding.message for finding in store.findings()]
    monkeypatch.setenv("CODEX_HOME", str(home))
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["status", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "", "status says it itself"
    shown = json.loads(out)
    assert [finding["code"] for finding in shown["storeFindings"]] == codes
    assert shown["warnings"] == [finding["message"] for finding in shown["storeFindings"]]
    assert await asyncio.to_thread(main, ["status"]) == 0
    assert capsys.readouterr().out.count("  warning ") == len(codes)
    await save(home, make_tokens())
    assert "file_" not in str([finding.code for finding in store.findings()]), "the next write makes it private"


@needs_root
async def test_a_file_of_another_user_in_a_home_that_is_ones_own_is_used_and_told_of(tmp_path: Path) -> None:
    """So it is in a container: uid 0 with a file of uid 1000."""
    home = tmp_path / "home"
    await save(home)
    os.chown(home / "auth.json", USER, USER)
    assert [finding.code for finding in findings(str(home / "auth.json"))] == ["file_of_another_user"]
    assert reason_to_refuse(str(home / "auth.json")) is None
    await save(home, make_tokens())
    assert owners(home)["auth.json"] == (USER, USER)


@needs_root
@pytest.mark.parametrize("kind", ["file", "link", "target"])
async def test_what_a_stranger_put_in_a_home_that_all_can_write_is_neither_used_nor_written(
    kind: str, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        folder.chmod(0o1777)
    target = (home if kind == "file" else elsewhere) / "auth.json"
    target.write_bytes(encode(KEY, None))
    if kind != "file":
        (home / "auth.json").symlink_to(target)
    planted = home / "auth.json" if kind == "link" else target
    os.chown(planted, OTHER, OTHER, follow_symlinks=False)
    before = target.read_bytes()
    with pytest.raises(StoreUnavailable, match=f"belongs to user {OTHER}"):
        await AuthJsonStore(home).load()
    with pytest.raises(StoreUnavailable, match=f"belongs to user {OTHER}"):
        await save(home, make_tokens())
    assert target.read_bytes() == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_without_locks_people_sign_in_refresh_and_sign_out(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what excludes them is a marker file; nothing is printed."""

    def missing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    tokens = make_tokens(expires_in=-60.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await save(tmp_path, tokens)
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


@needs_root
def test_a_refusal_names_what_was_put_there_and_root_is_no_stranger(tmp_path: Path) -> None:
    folder, file, link = tmp_path / "all", tmp_path / "all" / "file", tmp_path / "all" / "link"
    folder.mkdir()
    folder.chmod(0o777)
    file.touch()
    link.symlink_to(tmp_path / "nowhere")
    assert (reason_to_refuse(str(file)), reason_to_refuse(str(link))) == (None, None)
    for path in (file, link):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    assert "this file belongs" in str(reason_to_refuse(str(file)))
    assert "this symbolic link belongs" in str(reason_to_refuse(str(link)))
    os.chown(folder, OTHER, OTHER)
    assert reason_to_refuse(str(file)) is None, "its owner owns the folder, too"
