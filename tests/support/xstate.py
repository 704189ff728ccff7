"""Installs XState from npm, once, and asks it about machines."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support.codex_binaries import CannotInstall, cache_folder, npm_install
from support.paths import TESTS

_RELEASE = "5.33.3"


def install() -> list[str]:
    """The command that reads machines: `xstate_paths.mjs`. XState is installed from npm if it is not in the cache.

    Raises:
        CannotInstall: there is no Node.js, no npm or no network.
    """
    node = shutil.which("node")
    if node is None:
        raise CannotInstall("XState needs Node.js, and there is none on the PATH")
    folder = cache_folder() / f"xstate-{_RELEASE}"
    if not (folder / "node_modules" / "xstate" / "package.json").is_file():
        npm_install(f"xstate@{_RELEASE}", folder)
    return [node, str(TESTS / "support" / "xstate_paths.mjs"), str(folder)]


def read_machines(command: list[str], folder: Path) -> dict[str, Any]:
    """What XState says about each machine in a folder, by its id; see xstate_paths.mjs."""
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read
