"""Rows that come back from a backup, with and without the claims that were made since."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from faults.postgres_parts import Login, let_the_hold_end, opened
from support.postgres import PostgresServer, programs

from authstate import AuthState, PermanentRefreshError

DUMPED = ("--format=custom", "--schema=authstate")


class Backup:
    """A dump of a database, as `pg_dump` writes it and `pg_restore` reads it."""

    def __init__(self, server: PostgresServer, name: str, file: Path) -> None:
        self._server = server
        self._name = name
        self._file = file

    def make(self) -> None:
        self._run("pg_dump", *DUMPED, "--file", str(self._file), self._name)

    def restore(self) -> None:
        """Replace the whole database by what it was."""
        self._run("pg_restore", "--clean", "--exit-on-error", "--dbname", self._name, str(self._file))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(programs() / program), "-h", str(self._server.folder), "-U", "postgres", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def backup(postgres_server: PostgresServer, database_url: str, tmp_path: Path) -> Backup:
    return Backup(postgres_server, database_url.split("dbname=")[1].split()[0], tmp_path / "backup")


def replay_login(url: str, row: tuple[object, ...]) -> None:
    """Put an old login into the row of an account, and leave everything else as it is."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE authstate.accounts SET login = %s, key_id = %s, fingerprint = %s", row)


async def test_a_login_of_a_backup_is_not_sent_again_while_its_claim_is_known(database_url: str) -> None:
    login = Login()
    async with opened(database_url) as database:
        await login.store_in(database)
        with psycopg.connect(database_url, autocommit=True) as connection:
            [old] = connection.execute("SELECT login, key_id, fingerprint FROM authstate.accounts").fetchall()
        await login.refresh(database)
        replay_login(database_url, old)
    async with opened(database_url) as database, login.engine(database) as engine:
        with pytest.raises(PermanentRefreshError, match="as after a restored backup"):
            await engine.authorization()
        assert engine.session.state is AuthState.REFRESH_DEAD
    assert login.authority.sent == [login.tokens.refresh_token.reveal()]


async def test_a_process_with_newer_tokens_overrules_a_restored_backup(database_url: str, backup: Backup) -> None:
    login = Login()
    async with opened(database_url) as database:
        await login.store_in(database)
        async with login.engine(database) as engine:
            backup.make()
            await engine.authorization()
            backup.restore()
            assert await database.store("alice").load() == login.tokens
            await engine.refresh()
        assert len(login.authority.sent) == len(set(login.authority.sent)) == 2


async def test_a_whole_database_from_before_a_refresh_costs_one_try_and_says_so(
    database_url: str, backup: Backup
) -> None:
    """Nothing in it tells that the token is spent, so only the issuer does. Then everybody knows."""
    login = Login()
    async with opened(database_url) as database:
        await login.store_in(database)
        backup.make()
        await login.refresh(database)
    backup.restore()
    for _ in range(2):  # two machines
        async with opened(database_url) as database, login.engine(database) as engine:
            with pytest.raises(PermanentRefreshError, match=r"was spent already.*Sign in again"):
                await engine.authorization()
            assert engine.session.state is AuthState.REFRESH_DEAD
    assert login.authority.sent == 2 * [login.tokens.refresh_token.reveal()]


async def test_a_whole_database_from_after_a_claim_is_a_doubt(database_url: str, backup: Backup) -> None:
    """A backup that was made while a refresh was under way has its claim, which tells who sent the token."""
    login = Login()
    async with opened(database_url) as database:
        await login.store_in(database)
        login.authority.on_answer = backup.make
        await login.refresh(database)
    backup.restore()
    let_the_hold_end(database_url)
    async with opened(database_url) as database, login.engine(database) as engine:
        with pytest.raises(PermanentRefreshError, match="ended in the middle of a refresh"):
            await engine.authorization()
        assert engine.session.state is AuthState.REFRESH_DEAD
