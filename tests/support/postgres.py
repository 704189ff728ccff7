"""A PostgreSQL server of a test's own: Debian's programs, a folder, a socket in that folder, no password."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from support.codex_binaries import CannotInstall
from support.debian import install

from authstate.adapters.postgres.migrate import migrate_database

_SETTINGS = (
    "listen_addresses = ''",
    "max_connections = 200",
    "shared_buffers = 64MB",
    "log_min_messages = fatal",
    # What is written survives the end of a server without it, and only the end of the machine needs it.
    *("fsync = off", "full_page_writes = off"),
    "autovacuum = off",  # its processes are in pg_stat_activity, beside the connections that tests look for
)
_numbers = count(1)


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
    """One server. Root runs it as the user `postgres`, because PostgreSQL refuses to run as root.

    Args:
        folder: of the data and the socket. Short, because the path of a socket has at most 107 bytes.
        bin_folder: where the programs are.
        data: another folder for the data.
    """

    def __init__(self, folder: Path, bin_folder: Path, data: Path | None = None) -> None:
        self.folder = folder
        self._bin = bin_folder
        self._data = folder / "data" if data is None else data
        self.port: int | None = None
        """Where it listens on 127.0.0.1. None: it has a socket only."""
        self._user = "postgres" if os.geteuid() == 0 else None

    def create(self, *options: str) -> None:
        """Make an empty server. `options` are those of initdb."""
        self._make_folder()
        self.run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-N", "-E", "UTF8", *options)
        self.configure(*_SETTINGS, f"unix_socket_directories = '{self.folder}'")

    def follow(self, primary: "PostgresServer") -> None:
        """Make a standby from a copy of a running server."""
        self._make_folder()
        source = ("-h", str(primary.folder), "-U", "postgres", "-c", "fast", "-N")
        self.run("pg_basebackup", "-D", str(self._data), "-R", *source)
        self.configure(f"unix_socket_directories = '{self.folder}'", "hot_standby = on")

    def configure(self, *settings: str) -> None:
        """Add lines to postgresql.conf. A later line replaces an earlier one. They count from the next start."""
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join(settings) + "\n")

    def start(self) -> None:
        self._control("-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._control("-m", mode, "stop")

    def reload(self) -> None:
        """Let the server read postgresql.conf again."""
        self._control("reload")

    def allow(self, access: str) -> None:
        """Replace pg_hba.conf, and wait until it counts."""
        (self._data / "pg_hba.conf").write_text(access)
        before = self.execute("SELECT pg_conf_load_time()")
        self.reload()
        while self.execute("SELECT pg_conf_load_time()") == before:
            continue

    def is_running(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def promote(self) -> None:
        """Make a standby the primary, and wait until it accepts writes."""
        self._control("promote")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        port = "" if self.port is None else f" port={self.port}"
        return f"host={self.folder} dbname={database} user={user}{port}"

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser. Returns its rows."""
        return run_statement(self.url(database), statement, *values)

    async def new_database(self) -> str:
        """Make a database with all tables, and no rows. Returns its URL."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        await migrate_database(self.url(name))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database of `new_database`, and end the connections that are left."""
        name = url.split("dbname=")[1].split()[0]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the user of the server, to its end."""
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd="/", timeout=120)
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", *arguments)

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)


def run_statement(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement in a database. Returns its rows."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a new folder with a short path that every user may read, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="authstate-pg"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_server(bin_folder: Path, *, port: int | None = None) -> Iterator[PostgresServer]:
    """Yield a new server that runs. With a port, it also listens on 127.0.0.1. It ends with the block."""
    with short_folder() as folder:
        server = PostgresServer(folder / "s", bin_folder)
        server.create()
        if port is not None:
            server.configure("listen_addresses = '127.0.0.1'", f"port = {port}")
            server.port = port
        server.start()
        try:
            yield server
        finally:
            if server.is_running():
                server.stop("immediate")
