"""Owners, groups and modes of new files, one function at a time, and files that are mount points."""

import errno
import os
import stat
from pathlib import Path

import pytest
from support.open_files import open_files_below

from authstate.adapters.stores import file_ownership, permissions
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_ownership import (
    copy_ownership,
    give_to_owner_of_folder,
    is_mount_point,
    mode_after,
    share_with_group,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can give files to other users")
USER, OTHER, GROUP = 4321, 4322, 4400


def state_of(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def make(path: Path, owner: int = 0, group: int = 0, mode: int = 0o600) -> Path:
    path.write_text("{}")
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an ordinary user, which a group can write in."""
    made = tmp_path / "home"
    made.mkdir()
    if is_root:
        os.chown(made, USER, GROUP)
    made.chmod(0o770)
    return made


def refuse(*_: object, **options: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


# copy_ownership


@needs_root
def test_a_file_that_replaces_nothing_belongs_to_the_owner_of_the_folder(home: Path) -> None:
    new = make(home / "new")
    assert copy_ownership(str(new), str(home / "auth.json")) is True
    assert state_of(new) == (USER, GROUP, 0o600)


@needs_root
@pytest.mark.parametrize(("owner", "group"), [(0, 0), (0, GROUP), (USER, 0), (USER, GROUP), (OTHER, OTHER)])
def test_a_file_gets_the_owner_group_and_mode_of_the_one_that_it_replaces(owner: int, group: int, home: Path) -> None:
    old, new = make(home / "auth.json", owner, group, 0o640), make(home / "new")
    assert copy_ownership(str(new), str(old)) is True
    assert state_of(new) == (owner, group, 0o640)


@needs_root
def test_a_group_that_cannot_be_given_gets_no_access(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make(home / "auth.json", 0, GROUP, 0o660), make(home / "new")
    monkeypatch.setattr(os, "fchown", refuse)
    assert copy_ownership(str(new), str(old)) is True, "the owner is right"
    assert state_of(new) == (0, 0, 0o600)


@needs_root
def test_an_owner_that_cannot_be_given_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make(home / "auth.json", USER, 0), make(home / "new")
    monkeypatch.setattr(os, "fchown", refuse)
    assert copy_ownership(str(new), str(old)) is False


@needs_root
def test_a_temporary_file_of_another_user_is_not_used(home: Path) -> None:
    old, new = make(home / "auth.json", USER, USER), make(home / "new", OTHER, OTHER)
    with pytest.raises(OSError, match="Another user put something"):
        copy_ownership(str(new), str(old))
    assert state_of(new) == (OTHER, OTHER, 0o600)
    assert open_files_below(home) == []


def test_a_mode_that_cannot_be_changed_keeps_nothing_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("{}")
    monkeypatch.setattr(os, "fchmod", refuse)
    Disk().overwrite(str(file), b"[1]")
    assert file.read_bytes() == b"[1]"


# mode_after


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


# give_to_owner_of_folder


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
    assert state_of(precious) == (0, 0, 0o644)


@needs_root
def test_root_gives_its_own_files_only(home: Path) -> None:
    own, theirs = make(home / "own"), make(home / "theirs", OTHER, OTHER)
    for path in (own, theirs, home / "nothing"):
        give_to_owner_of_folder(str(path))
    assert state_of(own) == (USER, GROUP, 0o600)
    assert state_of(theirs) == (OTHER, OTHER, 0o600)
    assert open_files_below(home) == []


@needs_root
def test_what_is_no_file_is_not_given(home: Path) -> None:
    (home / "folder").mkdir(mode=0o700)
    os.mkfifo(home / "pipe", 0o600)
    for name in ("folder", "pipe"):
        give_to_owner_of_folder(str(home / name))
        assert (home / name).stat().st_uid == 0


@needs_root
def test_who_is_not_root_gives_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make(home / "own")
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    give_to_owner_of_folder(str(own))
    assert state_of(own) == (0, 0, 0o600)


# share_with_group


@needs_root
@pytest.mark.parametrize(("owner", "group"), [(0, 0), (0, GROUP), (USER, 0), (USER, GROUP)])
def test_a_lock_file_is_shared_with_the_group_of_the_folder(owner: int, group: int, home: Path) -> None:
    lock = make(home / "lock", owner, group)
    share_with_group(str(lock))
    assert state_of(lock) == (owner, GROUP, 0o660)


@needs_root
@pytest.mark.parametrize("why_not", ["another user's", "a private folder", "a hard link", "a pipe"])
def test_what_is_not_shared_with_the_group(why_not: str, home: Path, tmp_path: Path) -> None:
    lock = home / "lock"
    if why_not == "a pipe":
        os.mkfifo(lock, 0o600)
    else:
        make(lock, OTHER if why_not == "another user's" else 0)
    if why_not == "a private folder":
        home.chmod(0o750)
    if why_not == "a hard link":
        os.link(lock, tmp_path / "link")
    before = state_of(lock)
    share_with_group(str(lock))
    assert state_of(lock) == before


@needs_root
@pytest.mark.parametrize(("group", "mode"), [(GROUP, 0o660), (0, 0o600)])
def test_where_no_group_can_be_given_the_right_one_is_let_in_all_the_same(
    group: int, mode: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = make(home / "lock", 0, group)
    monkeypatch.setattr(os, "fchown", refuse)
    share_with_group(str(lock))
    assert state_of(lock) == (0, group, mode)


# is_mount_point


def test_a_file_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_mount_point(str(tmp_path / "file")) is False
    assert is_mount_point(str(tmp_path / "nothing")) is False
    assert open_files_below(tmp_path) == []


@pytest.mark.parametrize(("of_file", "is_mounted"), [("31", True), ("30", False)])
def test_a_file_on_another_mount_than_its_folder_is_mounted(
    of_file: str, is_mounted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = {str(tmp_path): "30", str(tmp_path / "file"): of_file}
    monkeypatch.setattr(file_ownership, "_mount_of", mounts.get)
    assert is_mount_point(str(tmp_path / "file")) is is_mounted


def test_where_mounts_have_no_numbers_another_device_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delattr(os, "O_PATH", raising=False)
    assert is_mount_point(str(tmp_path / "file")) is False
    if os.path.ismount("/proc"):
        assert is_mount_point("/proc") is True


def test_a_mount_number_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "O_PATH"):
        pytest.skip("only Linux numbers mounts")
    assert str(file_ownership._mount_of(str(tmp_path))).isdigit()
    monkeypatch.setattr(file_ownership, "open", refuse, raising=False)
    assert file_ownership._mount_of(str(tmp_path)) is None
    assert open_files_below(tmp_path) == []


# Windows


def test_on_windows_there_are_no_owners_no_modes_and_no_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, new = tmp_path / "auth.json", tmp_path / "new"
    for path in (file, new):
        path.touch()
        path.chmod(0o666)
    tmp_path.chmod(0o777)
    monkeypatch.setattr(file_ownership, "_UNIX", False)
    monkeypatch.setattr(permissions, "_UNIX", False)
    assert copy_ownership(str(new), str(file)) is True
    give_to_owner_of_folder(str(new))
    share_with_group(str(new))
    Disk().overwrite(str(new), b"{}")
    assert stat.S_IMODE(new.stat().st_mode) == 0o666
    assert is_mount_point("/proc") is False
    assert permissions.is_of_another_user("/") is False
    assert permissions.reason_to_refuse(str(file)) is None
    assert permissions.findings(str(file)) == []
