"""A real Secret Service: Debian's gnome-keyring on its own D-Bus, with its data in a folder of the test."""

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from jeepney import MatchRule, message_bus
from jeepney.io.blocking import Proxy, open_dbus_connection

NAME = "org.freedesktop.secrets"
_START = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec gnome-keyring-daemon --foreground --unlock --components=secrets'


class SecretService:
    """gnome-keyring with an unlocked keyring. Call `start`, and `stop` at the end.

    Args:
        folder: its home.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.environment: dict[str, str] = {}
        """The variables with which a process finds it."""

    def start(self) -> "SecretService":
        """Start it and wait until it owns its name on the bus."""
        home = {"HOME": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder), "XDG_DATA_HOME": str(self._folder)}
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", _START],
            env={**os.environ, **home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("a password for tests")
        self._process.stdin.close()
        address = self._process.stdout.readline().strip()
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": address}
        _wait_for_owner(address)
        return self

    def stop(self) -> None:
        """End it and its bus. A second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _wait_for_owner(address: str) -> None:
    with closing(open_dbus_connection(address)) as connection:
        bus: Any = Proxy(message_bus, connection)
        rule = MatchRule(type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged")
        rule.add_arg_condition(0, NAME)
        bus.AddMatch(rule)
        with connection.filter(rule) as owners:
            if not bus.NameHasOwner(NAME)[0]:
                connection.recv_until_filtered(owners, timeout=30)
