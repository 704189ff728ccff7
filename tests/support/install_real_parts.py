"""Installs every real part that tests use: `python -m support.install_real_parts`, in the folder `tests`.

These are codex, its ACP agent and XState (from npm), its Python SDK and the client of OpenAI's API (from PyPI), and
Chromium, a keyring, systemd-analyze, tmux, Xvfb, bubblewrap, faketime, pgbouncer, Spin and gcc (Debian packages: only
root can install them). The tests install a missing part themselves, in the same way. Use this script to prepare a
machine.

Prints a line for each part. The exit status is 1 if one cannot be installed.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial

from support import codex_acp, codex_binaries, debian, python_sdk, xstate
from support.codex_binaries import PINNED, CannotInstall

PARTS: Mapping[str, Callable[[], object]] = {
    **{f"codex {version}": partial(codex_binaries.install, version) for version in PINNED},
    "codex-acp": codex_acp.install,
    "XState": xstate.install,
    "the Python SDK of codex": python_sdk.install,
    "the Python client of OpenAI's API": python_sdk.install_api_client,
    "Chromium": debian.chromium,
    "gnome-keyring and D-Bus": debian.gnome_keyring,
    "systemd-analyze": debian.systemd_analyze,
    "tmux": debian.tmux,
    "Xvfb": debian.xvfb,
    "bubblewrap": debian.bubblewrap,
    "faketime": debian.faketime,
    "pgbouncer": debian.pgbouncer,
    "Spin and gcc": debian.spin,
}


def main(parts: Mapping[str, Callable[[], object]] = PARTS) -> int:
    """Install the parts. Returns 0, or 1 if one cannot be installed."""
    failed = False
    for name, install in parts.items():
        try:
            install()
        except CannotInstall as reason:
            failed = True
            print(f"missing    {name}: {reason}")
        else:
            print(f"installed  {name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
