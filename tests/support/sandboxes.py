"""A container-like sandbox made by bubblewrap: own processes, files and network, and an own user if this one is root.

From its network, only the ports that a test names are reachable, on its own 127.0.0.1.
"""

import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from support.paths import TESTS

HOME = "/agent"
"""The home of the sandbox, as its processes see it."""
USER = 65534
"""`nobody`: no process of this user can read files of another one."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", sys.base_prefix)


class Sandbox:
    """Makes commands that run in a sandbox. Use it as a context manager.

    Args:
        home: becomes its home, and the property of its user.
        ports: of 127.0.0.1, which are reachable from it.
        programs: files that it can read and run, at the same paths.
        shown: folders that it can see, at the same paths, as far as their modes allow.
    """

    def __init__(
        self, home: Path, ports: Sequence[int], programs: Sequence[Path] = (), shown: Sequence[Path] = ()
    ) -> None:
        self._home = home
        self._ports = list(ports)
        self._visible = [*programs, *shown]
        self._place = Path(tempfile.mkdtemp(prefix="authstate-sandbox-"))  # the path of a socket must be short
        self._place.chmod(0o755)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(self._place / "control"))
        (self._place / "control").chmod(0o666)
        self._control.listen()
        self.sent = bytearray()
        """What processes of the sandbox have sent to the ports."""
        if os.geteuid() == 0:
            for path in (home, *home.rglob("*")):
                os.chown(path, USER, USER, follow_symlinks=False)

    def __enter__(self) -> Self:
        threading.Thread(target=self._take_ports, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        shutil.rmtree(self._place)

    def command(self, *command: str, **environment: str) -> list[str]:
        """The command that runs a command in a new sandbox, with no more than these variables."""
        entry = TESTS / "support" / "sandbox_entry.py"
        mounts = [("--ro-bind-try", path, path) for path in _SYSTEM]
        mounts += [("--ro-bind", str(path), str(path)) for path in self._visible]
        mounts += [("--ro-bind", str(entry), "/entry.py"), ("--bind", str(self._place / "control"), "/control")]
        mounts += [("--bind", str(self._home), HOME)]
        parents = [parent for _, _, place in mounts for parent in reversed(Path(place).parents[:-1])]
        variables = {"HOME": HOME, "CODEX_HOME": HOME, "PATH": "/usr/bin:/bin", **environment}
        return [
            *("bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--clearenv"),
            *(word for name, value in variables.items() for word in ("--setenv", name, value)),
            *("--tmpfs", "/tmp"),
            *(word for path in dict.fromkeys(parents) for word in ("--perms", "0755", "--dir", str(path))),
            *(word for mount in mounts for word in mount),
            *("--proc", "/proc", "--dev", "/dev", "--chdir", HOME),
            *self._as_own_user(),
            *(str(Path(sys.executable).resolve()), "-I", "-S", "/entry.py", "/control"),
            *(",".join(map(str, self._ports)), *command),
        ]

    def _as_own_user(self) -> list[str]:
        """The words that change the user. Only root can do that; then no right of root is left."""
        if os.geteuid() != 0:
            return ["--"]
        rights = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP", "--"]
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        return [*rights, *user, "--inh-caps=-all", "--bounding-set=-all", "--"]

    def _take_ports(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._control.accept()
                _, handles, _, _ = socket.recv_fds(client, 16, len(self._ports))
                for handle, port in zip(handles, self._ports, strict=True):
                    listener = socket.socket(fileno=handle)
                    threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()
                client.sendall(b".")
                client.close()

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            inside, _ = listener.accept()
            outside = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=self._copy, args=(inside, outside, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(outside, inside, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_sent: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_sent:
                    self.sent += data
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
