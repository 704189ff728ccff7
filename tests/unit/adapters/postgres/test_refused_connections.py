"""What a process is told that gets no connection: why, what to do, and no secret. With a real server."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from support.ports import private_port
from support.postgres import PostgresServer, running_server
from support.real_parts import RealParts

from authstate import EncryptionKeys, PostgresDatabase, StoreUnavailable
from authstate.adapters.cli.main import main
from authstate.adapters.postgres.connections import Row

_ACCESS = """
local all postgres,forbidden,nologin,few,reader trust
host all secret 127.0.0.1/32 scram-sha-256
hostssl all encrypted 127.0.0.1/32 trust
"""
_ROLES = (
    "CREATE ROLE secret LOGIN PASSWORD 'right'",
    "CREATE ROLE encrypted LOGIN",
    "CREATE ROLE nologin",
    "CREATE ROLE forbidden LOGIN",
    "CREATE ROLE few LOGIN CONNECTION LIMIT 0",
    "CREATE ROLE reader LOGIN",
    "ALTER ROLE reader SET default_transaction_read_only = on",
    "CREATE DATABASE logins",
    "REVOKE CONNECT ON DATABASE logins FROM public",
)


_WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""


class Patient(PostgresDatabase):
    _connect_within = 3600.0


class Impatient(PostgresDatabase):
    _connect_within = 0.5


@pytest.fixture(scope="module")
def refusing() -> Iterator[PostgresServer]:
    """A server that refuses most clients."""
    with running_server(RealParts().postgres(), port=private_port()) as server:
        for statement in _ROLES:
            server.execute(statement)
        server.allow(_ACCESS)
        yield server


def at(server: PostgresServer, url: str) -> str:
    """Fill in where the server is: `{local}` or `{tcp}`."""
    return url.format(local=f"host={server.folder} port={server.port}", tcp=f"host=127.0.0.1 port={server.port}")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password, no service, and a name server that knows nobody."""
    password_file = tmp_path / "passwords"
    password_file.write_text("*:*:*:secret:canary-password")
    password_file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(password_file))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    (tmp_path / "services").write_text("[other]\nhost=127.0.0.1\npassword=canary-password\n")


CASES = [
    pytest.param("{tcp} user=secret dbname=logins", "refuses the password: check PGPASSFILE", id="password"),
    pytest.param("{local} user=postgres dbname=none", "there is no database of that name: create it", id="database"),
    pytest.param("{local} user=nologin dbname=logins", "this role may not log in: ALTER ROLE", id="login"),
    pytest.param("{local} user=forbidden dbname=logins", "GRANT CONNECT ON DATABASE", id="connect"),
    pytest.param("{local} user=nobody dbname=logins", "check the user name, sslmode, and pg_hba.conf", id="role"),
    pytest.param("{tcp} user=encrypted sslmode=disable dbname=logins", "sslmode, and pg_hba.conf", id="tls required"),
    pytest.param("{tcp} user=encrypted sslmode=require dbname=logins", "does not support TLS: turn it on", id="no tls"),
    pytest.param("{local} user=reader dbname=postgres", "ALTER ROLE ... SET default_transaction_read", id="read-only"),
    pytest.param("service=canary dbname=logins", "no such service in the service file: check PGSERVICE", id="service"),
]
PASSING = [
    pytest.param("host=127.0.0.1 port=1 dbname=logins", "no server answers there: check that it runs", id="refused"),
    pytest.param("host=/no/such dbname=logins", "no server answers there: check that it runs", id="socket"),
    pytest.param("host=no.such.invalid dbname=logins", "the name of its host is not known", id="host"),
    pytest.param("{local} user=few dbname=postgres", "raise max_connections, or put pgbouncer", id="connections"),
]


@pytest.mark.parametrize(("url", "said"), CASES)
async def test_a_process_is_told_at_once_what_a_person_has_to_repair(
    url: str, said: str, refusing: PostgresServer, keys: EncryptionKeys
) -> None:
    async with Patient(at(refusing, url), keys, listens=False) as database:
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as raised:
                await database.store("alice").load()
            assert f"{database.place}: no connection: " in str(raised.value) and said in str(raised.value)
            assert "libpq says" not in str(raised.value)  # who is told may be a client of a broker


@pytest.mark.parametrize(("url", "said"), PASSING)
async def test_a_process_waits_for_what_may_pass_and_is_told_the_reason(
    url: str, said: str, refusing: PostgresServer, keys: EncryptionKeys
) -> None:
    async with Impatient(at(refusing, url), keys, listens=False) as database, asyncio.timeout(60):
        told = "no connection to it in time"
        while "no connection to it in time" in told:  # until the first attempt has failed
            with pytest.raises(StoreUnavailable) as raised:
                await database.store("alice").load()
            told = str(raised.value)
        assert said in told


@pytest.mark.parametrize(("url", "said"), [*CASES, *PASSING])
def test_a_command_tells_the_same(
    url: str, said: str, refusing: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["postgres", "status", "--database", at(refusing, url)]) == 4
    out, err = capsys.readouterr()
    assert out == "" and said in err and "(libpq says: " in err and "canary-password" not in err
    assert len(err.splitlines()) == 1


async def test_a_process_goes_on_once_it_is_repaired(refusing: PostgresServer, keys: EncryptionKeys) -> None:
    url = await refusing.new_database()
    role = "late"
    async with PostgresDatabase(url.replace("user=postgres", f"user={role}"), keys, listens=False) as database:
        with pytest.raises(StoreUnavailable, match=r"check the user name"):
            await database.store("alice").load()
        refusing.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
        refusing.allow(_ACCESS + f"local all {role} trust\n")
        async with asyncio.timeout(60):
            while await is_refused(database):  # an attempt may be under way that began before
                continue


async def test_who_waits_for_a_connection_that_is_in_use_gets_it_although_no_more_can_be_made(
    postgres_server: PostgresServer, database_url: str, keys: EncryptionKeys
) -> None:
    role = f"outside_{database_url.split('dbname=')[1].split()[0]}"
    postgres_server.execute(f"CREATE ROLE {role} LOGIN")
    url = database_url.replace("user=postgres", f"user={role}")
    with psycopg.connect(database_url, autocommit=True) as blocking:
        blocking.execute("SELECT pg_advisory_lock(1)")
        async with Growing(url, keys, connections=9, listens=False) as database, asyncio.timeout(60):
            await database.fetch("SELECT 1", {})  # makes some connections
            using: list[asyncio.Future[Row | None]] = []
            while (in_use := blocking.execute(_WAITING).fetchone()) != (database.made(),):
                if in_use == (len(using),) and database.made(idle=True):
                    using.append(asyncio.ensure_future(database.fetch("SELECT pg_advisory_lock_shared(1)", {})))
                await asyncio.sleep(0.01)  # no event tells it
            postgres_server.execute(f"ALTER ROLE {role} NOLOGIN")
            waiting = asyncio.ensure_future(database.fetch("SELECT 2 AS two", {}))
            await database.has_failed()
            assert not waiting.done()
            blocking.execute("SELECT pg_advisory_unlock(1)")
            await asyncio.gather(*using)
            assert await waiting == {"two": 2}


class Growing(Patient):
    _answer_within = 3600.0

    async def _recent(self, since: float) -> Sequence[Row]:
        return []  # nothing else needs a connection

    def made(self, *, idle: bool = False) -> int:
        """How many connections there are, or are idle."""
        assert self._pool is not None
        return self._pool.get_stats()["pool_available" if idle else "pool_size"]

    async def has_failed(self) -> None:
        """Wait until an attempt to connect has failed."""
        while self._failures.last is None:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


async def is_refused(database: PostgresDatabase) -> bool:
    try:
        await database.store("alice").load()
    except StoreUnavailable:
        return True
    return False
