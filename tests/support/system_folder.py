"""An /etc/codex for one test, in a private mount namespace. The real one is not touched.

In the namespace, /etc is a folder of symbolic links to the real files, except for `codex`, which the test fills.
"""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_ENTER = """set -e
mkdir -p "$1/real" "$1/etc/codex"
mount --make-rprivate /
mount --bind /etc "$1/real"
for file in "$1/real"/* "$1/real"/.[!.]*; do
    name=$(basename "$file")
    [ -e "$1/etc/$name" ] || [ -L "$1/etc/$name" ] || ln -s "$file" "$1/etc/$name"
done
mount --bind "$1/etc" /etc
shift
exec "$@"
"""


class SystemFolder:
    """An /etc/codex for programs that are started with `prefix`.

    Args:
        folder: a new or empty folder.
        files: the content of each file in /etc/codex, by its name.
    """

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self._folder = folder
        self.codex = folder / "etc" / "codex"
        """The folder that is /etc/codex for these programs."""
        self.codex.mkdir(parents=True)
        for name, text in (files or {}).items():
            (self.codex / name).write_text(text)

    @property
    def prefix(self) -> list[str]:
        """The words to put before a command."""
        return [*_unshare(), "sh", "-c", _ENTER, "sh", str(self._folder)]


def reason_unavailable(folder: Path) -> str | None:
    """Try whether a `SystemFolder` works on this machine. Returns the reason if it does not, otherwise None.

    Args:
        folder: a new or empty folder for the try.
    """
    if shutil.which("unshare") is None:
        return "there is no unshare(1)"
    prefix = SystemFolder(folder, {"config.toml": "# a try"}).prefix
    tried = subprocess.run([*prefix, "cat", "/etc/codex/config.toml"], capture_output=True, text=True, timeout=60)
    return None if tried.stdout == "# a try" else f"no private mounts here: {tried.stderr.strip()[-200:]}"


@cache
def _unshare() -> Sequence[str]:
    """The command for a mount namespace. Without privileges, it also needs a user namespace."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=60)
    return ("unshare", "-m") if tried.returncode == 0 else ("unshare", "-rm")
