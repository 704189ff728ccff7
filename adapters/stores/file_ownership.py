"""Who owns the files of a home, and with which mode they are written.

What is replaced keeps its owner and group. New files that root makes in a user's home belong to that user. Modes are
tightened: other users lose all access; the group keeps its access where somebody chose it, that is where other users
had none, or where the folder itself can be written by the group.

On Windows there is none of this: the access list of the folder protects its files.
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
    """Give a new file of this user the owner, group and mode with which it takes the place of `target`.

    Returns:
        Whether the owner is the one it must be: that of `target`, or where there is none, that of the folder if root
        makes the file. A user who is not root can give nothing away.

    Raises:
        OSError: the folder is gone.
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
        group = before.st_gid == made.st_gid or _give(handle, -1, before.st_gid)
        os.fchmod(handle, mode_after(before.st_mode, folder.st_mode) if group else 0o600)
        return before.st_uid == made.st_uid or _give(handle, before.st_uid, -1)


def mode_after(mode: int, folder: int) -> int:
    """The mode of a file that replaces one of this mode, in a folder of that mode."""
    is_chosen = not mode & stat.S_IRWXO or bool(folder & stat.S_IWGRP)
    return stat.S_IRUSR | stat.S_IWUSR | (mode & _GROUP if is_chosen else 0)


def tighten(handle: int, folder: str) -> None:
    """Give an open file the mode with which it would be replaced, if this user may change it."""
    if _UNIX:
        with suppress(OSError):
            os.fchmod(handle, mode_after(os.fstat(handle).st_mode, os.stat(folder).st_mode))


def give_to_owner_of_folder(path: str) -> None:
    """As root, give a file that root owns to the owner and group of its folder. Does nothing for other users, and
    nothing where that is not permitted.
    """
    if not _UNIX or os.geteuid() != 0:
        return
    with suppress(OSError), _opened(path) as handle:
        folder, found = os.stat(os.path.dirname(path)), os.fstat(handle)
        if found.st_uid == 0 != folder.st_uid and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            _give(handle, folder.st_uid, folder.st_gid)


def share_with_group(path: str) -> None:
    """Let the group of a folder that it can write in use a file without secrets: a lock, or what is known of tokens.
    Does nothing in other folders, nor to another user's file.
    """
    if not _UNIX:
        return
    with suppress(OSError), _opened(path) as handle:
        folder, found = os.stat(os.path.dirname(path)), os.fstat(handle)
        may = found.st_uid in (os.geteuid(), folder.st_uid) and found.st_nlink == 1 and stat.S_ISREG(found.st_mode)
        if (
            may
            and folder.st_mode & stat.S_IWGRP
            and (found.st_gid == folder.st_gid or _give(handle, -1, folder.st_gid))
        ):
            os.fchmod(handle, 0o660)


def is_mount_point(path: str) -> bool:
    """Whether a file is one that is mounted by itself. Linux tells; elsewhere a file of another device than its folder
    counts as one.
    """
    if not _UNIX:
        return False
    with suppress(OSError):
        if (of_file := _mount_of(path)) is not None:
            return of_file != _mount_of(os.path.dirname(path))
        return os.lstat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    return False


def _mount_of(path: str) -> str | None:
    """The number of the mount that a path is on; None where that is not known. Raises OSError."""
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
    """A file, opened without following a link. What is opened cannot be exchanged any more. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _give(handle: int, user: int, group: int) -> bool:
    try:
        os.fchown(handle, user, group)
    except OSError:
        return False
    return True
