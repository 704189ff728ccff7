"""Finds what other users can do to a home.

Refused: an auth.json, or a symbolic link of this name, in a folder that every user can write, if it belongs neither to
this user nor to root nor to the owner of the folder. Whoever put it there would receive the next tokens. In a folder
that only its owner or its group can write, nobody else can have put it there, so it is used.

Reported in the log and by `authstate status`, as gpg does: everything in `Finding.code`. These are not errors, because
containers and groups share homes on purpose. The next write tightens the mode of the file (file_ownership.py). The mode
of a folder is left to its owner.

On Windows nothing is found, because the access list of the folder is not read.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, runtime_checkable

import msgspec

_UNIX = sys.platform != "win32"


class Finding(msgspec.Struct, frozen=True):
    """Something about a home that its owner should know."""

    code: str
    """For programs: `home_writable_by_others`, `file_readable_by_others`, `file_writable_by_others`,
    `file_of_another_user`.
    """
    path: str
    message: str
    """For a person: the finding, and what to do."""


@runtime_checkable
class Inspected(Protocol):
    """A store that can tell what other users can do to it."""

    def findings(self) -> list[Finding]:
        """Return what the owner of the home should know. Blocks briefly; raises nothing."""
        ...


def is_of_another_user(path: str) -> bool:
    """Return whether a file or folder exists and belongs to another user. Raises nothing."""
    try:
        return _UNIX and os.stat(path).st_uid != os.geteuid()
    except OSError:
        return False


def reason_to_refuse(path: str) -> str | None:
    """Return why an auth.json is refused, for a person. None if it is not. Blocks briefly; raises nothing."""
    if _UNIX:
        for place in dict.fromkeys((path, os.path.realpath(path))):
            with suppress(OSError):
                if reason := _reason_to_refuse(place):
                    return reason
    return None


def _reason_to_refuse(path: str) -> str | None:
    folder, found = os.stat(os.path.dirname(path)), os.lstat(path)
    if not folder.st_mode & stat.S_IWOTH or found.st_uid in (os.geteuid(), 0, folder.st_uid):
        return None
    what = "symbolic link" if stat.S_ISLNK(found.st_mode) else "file"
    return (
        f"{path} is not used: this {what} belongs to user {found.st_uid}, in a folder that every user can write: "
        f"see who put it there, remove it, and chmod o-w {os.path.dirname(path)}"
    )


def findings(path: str) -> list[Finding]:
    """Return what others can do to an auth.json and its folder. Blocks briefly; raises nothing."""
    found: list[Finding] = []
    if _UNIX:
        target = os.path.realpath(path)
        with suppress(OSError):
            found.extend(_folder_findings(os.path.dirname(target)))
        with suppress(OSError):
            found.extend(_file_findings(target))
    return found


def _folder_findings(folder: str) -> Iterator[Finding]:
    mode = os.stat(folder).st_mode
    if mode & stat.S_IWOTH:
        yield Finding(
            "home_writable_by_others",
            folder,
            f"every user of this machine can write in {folder} (mode {stat.S_IMODE(mode):04o}): chmod o-w it",
        )


def _file_findings(path: str) -> Iterator[Finding]:
    file, folder = os.stat(path), os.stat(os.path.dirname(path))
    if not stat.S_ISREG(file.st_mode):
        return  # for example a device: it stores nothing, so its mode does not matter
    mode = f"mode {stat.S_IMODE(file.st_mode):04o}"
    remedy = "the next sign-in or refresh makes it private, and chmod 600 does so now"
    if file.st_mode & stat.S_IWOTH:
        message = f"every user of this machine can change {path} ({mode}): {remedy}"
        yield Finding("file_writable_by_others", path, message)
    elif file.st_mode & stat.S_IROTH:
        message = f"every user of this machine can read {path} ({mode}): {remedy}"
        yield Finding("file_readable_by_others", path, message)
    if file.st_uid not in (os.geteuid(), folder.st_uid):
        message = f"{path} belongs to user {file.st_uid}, neither to you nor to the owner of its folder"
        yield Finding("file_of_another_user", path, f"{message}: chown it if that is not meant so")
