"""A PostgreSQL server of a test's own: Debian's programs, a folder, a socket in that folder, no password."""

import os
import pwd
import subprocess
from pathlib import Path

from support.codex_binaries import CannotInstall
from support.debian import install

_SETTINGS = (
    "listen_addresses = ''",
    "max_connections = 200",
    "shared_buffers = 64MB",
    "log_min_messages = fatal",
)


def programs() -> Path:
    """Install the server if it is missing. Returns the folder of its programs. Raises CannotInstall."""
    if _newest() is None:
        install(("initdb",), ("postgresql",))
    found = _newest()
    if found is None:
        raise CannotInstall("PostgreSQL was installed, and its programs are not where Debian puts them")
    return found


def _newest() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """One server. Root runs it as the user `postgres`, because PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        self._data = folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-N", "-E", "UTF8")
        settings = [*_SETTINGS, f"unix_socket_directories = '{self.folder}'"]
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join(settings) + "\n")

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-m", mode, "stop")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host={self.folder} dbname={database} user={user}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/", timeout=120)
