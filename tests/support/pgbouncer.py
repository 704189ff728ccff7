"""pgbouncer before a PostgreSQL server: it shares few connections to the server between many clients."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from support.postgres import PostgresServer, short_folder

_SETTINGS = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 5432
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
server_login_retry = 1
"""


@contextmanager
def running_pgbouncer(program: Path, server: PostgresServer) -> Iterator[Path]:
    """Yield the folder of its socket, once it answers. It has two connections to the server, in transaction mode."""
    with short_folder() as folder:
        folder.chmod(0o777)
        settings = folder / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server=server.folder, folder=folder))
        user = "postgres" if os.geteuid() == 0 else None
        with subprocess.Popen([program, "-q", settings], user=user, stderr=subprocess.DEVNULL) as process:
            try:
                until_it_answers(process, f"host={folder} dbname=postgres user=postgres")
                yield folder
            finally:
                process.terminate()


def until_it_answers(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Wait until pgbouncer accepts a connection."""
    while process.poll() is None:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            continue
        return
    raise AssertionError(f"pgbouncer ended with status {process.returncode}")
