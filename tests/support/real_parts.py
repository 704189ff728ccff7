"""The real programs that some tests run, each installed once.

`python -m support.install_real_parts`, run in tests/, installs all of them. A test gets one from the fixture
`real_parts`, which installs it where it is missing; such a test has the marker `real_parts` (tests/conftest.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock
from support import codex_binaries, debian, python_sdk
from support.codex_binaries import CannotInstall

T = TypeVar("T")


class RealParts:
    """The real parts for tests. Each method installs a part where it is missing, from npm, PyPI or Debian's archive.

    A part that cannot be installed skips the test, with the reason.
    """

    def codex(self, version: str) -> Path:
        """The codex binary of that version; "newest" is the newest one on npm."""
        return _installed(lambda: codex_binaries.install(codex_binaries.newest() if version == "newest" else version))

    def chromium(self) -> Path:
        """The browser's program."""
        return _installed(debian.chromium)

    def sdk(self) -> Path:
        """The folder that the Python SDK is imported from."""
        return _installed(python_sdk.install)

    def keyring(self) -> None:
        """gnome-keyring and D-Bus; they are on the PATH."""
        _installed(debian.gnome_keyring)


def _installed(install: Callable[[], T]) -> T:
    """Install a part, one process at a time: tests may run in several."""
    lock = codex_binaries.cache_folder() / "install.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            return install()
    except CannotInstall as reason:
        pytest.skip(str(reason))
