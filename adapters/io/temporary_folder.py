"""A temporary folder that is removed in any case: by its process, or by the next one if that was killed.

The process holds the lock on a file in the folder. The operating system releases it when the process dies.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

LOCK: Final = ".authstate-in-use"


@contextmanager
def temporary_folder(prefix: str) -> Generator[Path, None, None]:
    """Make a folder that only this user can read, and remove it at the end with all that was put into it.

    The folders of processes that were killed are removed first: those of this prefix, of this user, whose lock is free.

    Args:
        prefix: of its name. The rest is random.

    Raises:
        OSError: it cannot be made.
    """
    _remove_leftovers(prefix)
    folder, lock = _make(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _remove_rest(folder)


def _make(prefix: str) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = _lock_of(folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue  # another start took it for a leftover, and removes it
        except OSError:  # no locks on this file system: without the file, nobody takes it for a leftover
            if folder.is_dir():
                (folder / LOCK).unlink(missing_ok=True)
                return folder, lock
            continue
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()


def _remove_leftovers(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError, Timeout):
            if _is_ours(folder) and stat.S_ISREG((folder / LOCK).lstat().st_mode):
                with _lock_of(folder).acquire(blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)
                _remove_rest(folder)


def _remove_rest(folder: Path) -> None:
    """Remove what is left: Windows keeps a file that is open, and a program that outlives its parent may still write.

    If that program writes once more, the lock is put back, so that the next process finds the folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        if _is_ours(folder):
            (folder / LOCK).touch(mode=0o600)


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder of this user, and no link. On Windows, each user has a folder for temporary files."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / LOCK, mode=0o600, fallback_to_soft=False)
