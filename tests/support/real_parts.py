"""The real programs that some tests run.

A test gets them from the fixture `real_parts`, which installs what is missing. Such a test has the marker `real_parts`
(tests/conftest.py). `python -m support.install_real_parts`, in tests/, installs all of them beforehand.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock
from support import codex_acp, codex_binaries, debian, postgres, python_sdk, xstate
from support.codex_binaries import CannotInstall

T = TypeVar("T")


class RealParts:
    """Each method installs a part if it is missing. If that fails, it skips the test with the reason."""

    def codex(self, version: str) -> Path:
        """The path of the codex binary of a version. "newest" is the newest version on npm."""
        return _installed(lambda: codex_binaries.install(codex_binaries.newest() if version == "newest" else version))

    def chromium(self) -> Path:
        """The path of the browser."""
        return _installed(debian.chromium)

    def sdk(self) -> Path:
        """The folder from which the Python SDK is imported."""
        return _installed(python_sdk.install)

    def api_client(self) -> Path:
        """The folder from which the package `openai` is imported."""
        return _installed(python_sdk.install_api_client)

    def keyring(self) -> None:
        """Install gnome-keyring and D-Bus, which are then on the PATH."""
        _installed(debian.gnome_keyring)

    def systemd_analyze(self) -> None:
        """Install systemd-analyze, which is then on the PATH."""
        _installed(debian.systemd_analyze)

    def tmux(self) -> None:
        """Install tmux, which is then on the PATH."""
        _installed(debian.tmux)

    def xvfb(self) -> Path:
        """The path of an X server whose screen is in memory."""
        return _installed(debian.xvfb)

    def bubblewrap(self) -> None:
        """Install bubblewrap, which is then on the PATH. Skip as well if namespaces are not permitted here."""
        _installed(debian.bubblewrap)

    def faketime(self) -> Path:
        """The library that lets a program see another time. It is preloaded."""
        return _installed(debian.faketime)

    def postgres(self) -> Path:
        """The folder with the programs of a PostgreSQL server."""
        return _installed(postgres.programs)

    def pgbouncer(self) -> Path:
        """The path of pgbouncer, which shares few connections to PostgreSQL between many clients."""
        return _installed(debian.pgbouncer)

    def spin(self) -> None:
        """Install Spin, a model checker, and the C compiler for its verifiers, which are then on the PATH."""
        _installed(debian.spin)

    def codex_acp(self) -> list[str]:
        """The command of the ACP agent for codex, without a codex: `CODEX_PATH` names one."""
        return _installed(codex_acp.install)

    def xstate(self) -> list[str]:
        """The command that reads machines of XState: `support.xstate`."""
        return _installed(xstate.install)


def _installed(install: Callable[[], T]) -> T:
    """Install a part. One process installs at a time, because tests may run in several."""
    lock = codex_binaries.cache_folder() / "install.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            return install()
    except CannotInstall as reason:
        pytest.skip(str(reason))
