"""Where the files are that go with auth.json: beside it, or, where its folder cannot be written, in a folder of the
user.

Those are the state folder `$XDG_STATE_HOME/authstate` (default `~/.local/state/authstate`; on Windows
`%LOCALAPPDATA%/authstate`), and, for a container whose disk is read-only, `authstate-UID` in `$TMPDIR` (default `/tmp`)
or `/dev/shm`, which a restart empties. A folder that another user owns or can enter is left alone: what it holds may be
anything. The names in them begin with a digest of the path of auth.json.
"""

import hashlib
import os
import stat
from collections.abc import Iterator

_UNIX = os.name != "nt"


def companion_paths(target: str, tail: str) -> list[str]:
    """The paths of a file that goes with `target`, the best one first. Blocks briefly; raises nothing."""
    name = f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}{tail}"
    return [target + tail, *(os.path.join(folder, name) for folder in _folders() if _is_private(folder))]


def _folders() -> Iterator[str]:
    home = os.path.expanduser("~")
    if not _UNIX:
        yield os.path.join(os.environ.get("LOCALAPPDATA") or home, "authstate")
        return
    stated = os.environ.get("XDG_STATE_HOME", "")
    yield os.path.join(stated if os.path.isabs(stated) else os.path.join(home, ".local", "state"), "authstate")
    for shared in dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/dev/shm")):
        yield os.path.join(shared, f"authstate-{os.geteuid()}")


def _is_private(folder: str) -> bool:
    """Whether a folder is this user's alone, or not there yet."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not _UNIX:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
