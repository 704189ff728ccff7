"""Where the files are that go with auth.json: beside it, or, where its folder cannot be written, in the state folder
of the user: `$XDG_STATE_HOME/authstate` (default `~/.local/state/authstate`; on Windows `%LOCALAPPDATA%/authstate`).
There their names begin with a digest of the path of auth.json.
"""

import hashlib
import os


def places(target: str, tail: str) -> tuple[str, str]:
    """The two paths of a file that goes with `target`: the one beside it, and the one in the state folder."""
    name = f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}{tail}"
    return target + tail, os.path.join(_state_folder(), name)


def _state_folder() -> str:
    home = os.path.expanduser("~")
    if os.name == "nt":
        return os.path.join(os.environ.get("LOCALAPPDATA") or home, "authstate")
    stated = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(stated if os.path.isabs(stated) else os.path.join(home, ".local", "state"), "authstate")
