"""Finds the files that belong to auth.json: beside it or, if its folder is not writable, in a folder of the user.

The folder of the user is the state folder `$XDG_STATE_HOME/authstate` (default `~/.local/state/authstate`; on Windows
`%LOCALAPPDATA%/authstate`). For containers with a read-only disk, it is `authstate-UID` in `$TMPDIR` (default `/tmp`)
or `/dev/shm`, which a restart empties. A folder that another user owns or can enter is not used, because its content
cannot be trusted. File names there begin with a digest of the path of auth.json.
"""

import hashlib
import os
import stat
from collections.abc import Iterator

_UNIX = os.name != "nt"


def companion_paths(target: str, suffix: str) -> list[str]:
    """Return the paths of a file that belongs to `target`, the preferred one first. Blocks briefly; raises nothing."""
    return [target + suffix, *(_place_in(folder, target, suffix) for folder in _folders() if _is_private(folder))]


def reachable_companion_paths(target: str, suffix: str) -> Iterator[str]:
    """Yield the paths of `companion_paths` whose folder exists, without the digest of the others: for a look."""
    yield target + suffix
    for folder in _folders():
        if os.path.lexists(folder) and _is_private(folder):
            yield _place_in(folder, target, suffix)


def _place_in(folder: str, target: str, suffix: str) -> str:
    return os.path.join(folder, f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}{suffix}")


def _folders() -> Iterator[str]:
    home = os.path.expanduser("~")
    if not _UNIX:
        yield os.path.join(os.environ.get("LOCALAPPDATA") or home, "authstate")
        return
    state_home = os.environ.get("XDG_STATE_HOME", "")
    yield os.path.join(state_home if os.path.isabs(state_home) else os.path.join(home, ".local", "state"), "authstate")
    for shared in dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/dev/shm")):
        yield os.path.join(shared, f"authstate-{os.geteuid()}")


def _is_private(folder: str) -> bool:
    """Return whether only this user can use a folder, or the folder does not exist yet."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not _UNIX:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
