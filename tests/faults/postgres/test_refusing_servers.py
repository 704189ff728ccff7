"""A server that refuses a statement: the role has no rights, or a disk is full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.postgres_parts import Login, opened
from support.postgres import PostgresServer, short_folder
from support.real_parts import RealParts

from authstate import AuthError, StoreUnavailable

READS = "GRANT SELECT ON ALL TABLES IN SCHEMA authstate TO {role}"


@pytest.mark.parametrize("rights", ["none", "reads"])
async def test_a_role_without_rights_is_told_what_to_do(
    rights: str, postgres_server: PostgresServer, database_url: str
) -> None:
    login = Login()
    name = database_url.split("dbname=")[1].split()[0]
    role = f"{name}_{rights}"
    async with opened(database_url) as database:
        await login.store_in(database)
    postgres_server.execute(f"CREATE ROLE {role} LOGIN")
    if rights == "reads":
        for statement in (f"GRANT USAGE ON SCHEMA authstate TO {role}", READS.format(role=role)):
            postgres_server.execute(statement, database=name)
    async with opened(postgres_server.url(name, role)) as database:
        with pytest.raises(AuthError, match="grant it the rights"):
            await login.refresh(database)
    assert login.authority.sent == []


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk with 64 MB. Only root can mount one."""
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        pytest.skip("only root of a Linux machine can mount a small disk")
    with short_folder() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", folder], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"this container may not mount a disk: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_server(small_disk: Path) -> Iterator[PostgresServer]:
    """A server with its tables on the small disk, and its log of changes elsewhere: a full log ends the server."""
    with short_folder() as folder:
        folder.chmod(0o777)
        server = PostgresServer(folder / "s", RealParts().postgres(), small_disk / "data")
        server.create("-X", str(folder / "wal"))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


async def test_nothing_is_sent_while_the_disk_of_the_database_is_full(
    small_server: PostgresServer, small_disk: Path
) -> None:
    login = Login()
    async with opened(await small_server.new_database()) as database:
        await login.store_in(database)
        filled = small_disk / "filled"
        fill(filled)
        with pytest.raises(StoreUnavailable, match="the disk of the server is full"):
            await login.refresh(database)
        assert login.authority.sent == []
        filled.unlink()
        await login.refresh(database)
        await login.assert_refreshed_once(database)


def fill(file: Path) -> None:
    """Write to a file until its disk is full."""
    with file.open("wb", buffering=0) as opened_file:
        try:
            while opened_file.write(bytes(65536)):
                pass
        except OSError:
            return
