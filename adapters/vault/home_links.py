"""What the home of an account shares with the home: links to settings, sessions and whatever else codex keeps there."""

import os
import re
import shutil
from contextlib import suppress

from authstate.adapters.vault.vault import VAULT_FOLDER

_FILES = ("config.toml", "history.jsonl", "AGENTS.md")
"""What codex or a person creates later. It is linked before it exists, so that it is created in the home."""
_FOLDERS = ("sessions", "archived_sessions")
"""The same for folders. They are made first: codex 0.169.0 cannot create one behind a link (measured)."""
_OWN = (VAULT_FOLDER, "auth.json", "app-server-control", "app-server-daemon", "tmp", "installation_id", "log")
"""What each home has for itself."""
_OWN_PATTERN = re.compile(r"auth\.json\..+|\.tmp([A-Za-z0-9]{6}|-.*)?")
"""The same. codex writes a file under a name such as `.tmpAbC123` first."""
_OWN_ENDINGS = ("-wal", "-shm", ".sqlite", "-locks")


def link_entries(home: str, folder: str) -> None:
    """Link what the home has, and what codex will create there.

    A folder that codex has made in `folder` meanwhile is moved to the home first.

    Args:
        home: the home.
        folder: of the account; it exists.

    Raises OSError: something could not be linked.
    """
    for name in _FOLDERS:
        os.makedirs(os.path.join(home, name), mode=0o700, exist_ok=True)
    _move_to_home(home, folder, [name for name in _made_in(folder) if os.path.isdir(os.path.join(folder, name))])
    names = [name for name in os.listdir(home) if not _is_own(name) and not _is_lock(os.path.join(home, name))]
    for name in dict.fromkeys((*_FILES, *names)):
        target, place = os.path.join(home, name), os.path.join(folder, name)
        if os.path.islink(place) and os.readlink(place) != target and not os.path.exists(place):
            with suppress(FileNotFoundError):
                os.unlink(place)  # the home was moved
        if not os.path.lexists(place):
            with suppress(FileExistsError):  # another run links it at the same moment
                os.symlink(target, place)


def remove_links(home: str, folder: str) -> list[str]:
    """Remove the folder of an account. What codex has made there for a person is moved to the home.

    Returns:
        The paths of what was not removed, because the home has something else of this name.
    """
    _move_to_home(home, folder, _made_in(folder))
    kept = _made_in(folder)
    for name in os.listdir(folder):
        if name not in kept:
            path = os.path.join(folder, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(path)
    with suppress(OSError):  # it holds what is kept
        os.rmdir(folder)
    return [os.path.join(folder, name) for name in kept]


def _made_in(folder: str) -> list[str]:
    """Return the names of what codex has made in the folder of an account, instead of behind a link."""
    names = [name for name in sorted(os.listdir(folder)) if not os.path.islink(os.path.join(folder, name))]
    return [name for name in names if not _is_own(name) and not _is_lock(os.path.join(folder, name))]


def _move_to_home(home: str, folder: str, names: list[str]) -> None:
    """Move entries for which the home has none. What cannot be moved stays: on another file system, for example."""
    for name in names:
        if not os.path.lexists(target := os.path.join(home, name)):
            with suppress(OSError):  # another run may move it at the same moment
                os.rename(os.path.join(folder, name), target)


def _is_own(name: str) -> bool:
    """Whether each home has this for itself."""
    return name in _OWN or name.endswith(_OWN_ENDINGS) or _OWN_PATTERN.fullmatch(name) is not None


def _is_lock(path: str) -> bool:
    """Whether this is a file that somebody locks. One with content, such as flake.lock, is something else."""
    return path.endswith(".lock") and os.path.isfile(path) and os.path.getsize(path) == 0
