"""Sets the owner, group and mode of the files of a home.

A file that is replaced keeps its owner and group. A new file that root creates in a user's home belongs to that user.
Modes are tightened: other users lose all access. The group keeps its access if somebody chose it: other users had no
access, or the group can write in the folder.

On Windows none of this happens: the folder's access list protects its files.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_UNIX = sys.platform != "win32"
_GROUP = stat.S_IRWXG & ~stat.S_IXGRP


def copy_ownership(path: str, target: str) -> bool:
    """Give a new file of this user the owner, group and mode that it needs to replace `target`.

    Returns:
        Whether the owner is correct: the owner of `target`. If `target` does not exist and root creates the file, the
            owner of the folder is correct. Only root can give a file away.

    Raises:
        OSError: the folder is gone, or another user has replaced the new file.
    """
    if not _UNIX:
        return True
    folder = os.stat(os.path.dirname(target))
    try:
        before = os.stat(target)
    except FileNotFoundError:
        give_to_owner_of_folder(path)
        return True
    with _opened(path) as handle:
        made = os.fstat(handle)
        if made.st_nlink != 1 or made.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "Another user put something in the place of a temporary file", path)
        group = before.st_gid == made.st_gid or _chown(handle, -1, before.st_gid)
        os.fchmod(handle, mode_after(before.st_mode, folder.st_mode) if group else 0o600)
        return before.st_uid == made.st_uid or _chown(handle, before.st_uid, -1)


def mode_after(mode: int, folder: int) -> int:
    """Return the mode of a file that replaces one with `mode`, in a folder with mode `folder`."""
    keeps_group_access = not mode & stat.S_IRWXO or bool(folder & stat.S_IWGRP)
    return stat.S_IRUSR | stat.S_IWUSR | (mode & _GROUP if keeps_group_access else 0)


def tighten(handle: int, folder: str) -> None:
    """Give an open file the mode that a replacement would have, if this user may change it."""
    if _UNIX:
        with suppress(OSError):
            os.fchmod(handle, mode_after(os.fstat(handle).st_mode, os.stat(folder).st_mode))


def give_to_owner_of_folder(path: str) -> None:
    """As root, give a file of root to the owner and group of its folder.

    Does nothing for other users, or if that is not permitted.
    """
    if not _UNIX or os.geteuid() != 0:
        return
    with suppress(OSError), _opened(path) as handle:
        folder, found = os.stat(os.path.dirname(path)), os.fstat(handle)
        if found.st_uid == 0 != folder.st_uid and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            _chown(handle, folder.st_uid, folder.st_gid)


def share_with_group(path: str) -> None:
    """Let the group use a file without secrets, such as a lock or refresh claims, if it can write in the folder.

    Does nothing in other folders, nor to another user's file.
    """
    if not _UNIX:
        return
    with suppress(OSError), _opened(path) as handle:
        folder, found = os.stat(os.path.dirname(path)), os.fstat(handle)
        is_ours = found.st_uid in (os.geteuid(), folder.st_uid) and found.st_nlink == 1 and stat.S_ISREG(found.st_mode)
        if (
            is_ours
            and folder.st_mode & stat.S_IWGRP
            and (found.st_gid == folder.st_gid or _chown(handle, -1, folder.st_gid))
        ):
            os.fchmod(handle, 0o660)


def is_mount_point(path: str) -> bool:
    """Return whether a file is a mount of its own.

    Outside of Linux, a file on another device than its folder counts as one.
    """
    if not _UNIX:
        return False
    with suppress(OSError):
        if (of_file := _mount_of(path)) is not None:
            return of_file != _mount_of(os.path.dirname(path))
        return os.lstat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    return False


def _mount_of(path: str) -> str | None:
    """Return the number of the mount that a path is on, None if it is unknown. Raises OSError."""
    if not hasattr(os, "O_PATH"):
        return None
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as lines:
            found = [line.split()[1] for line in lines if line.startswith("mnt_id:")]
        return found[0] if found else None
    except OSError:
        return None
    finally:
        os.close(handle)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a file without following a link. Replacing the path later does not affect it. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _chown(handle: int, user: int, group: int) -> bool:
    try:
        os.fchown(handle, user, group)
    except OSError:
        return False
    return True
