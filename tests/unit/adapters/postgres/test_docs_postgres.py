"""docs/postgres.md: its shell lines and its program, in the order of the page, and what it says of the commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from support.homes import fill
from support.paths import REPO
from support.postgres import PostgresServer, programs
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.cli.parser import parse
from authstate.testing import LoopbackIssuer

PAGE = (REPO / "docs" / "postgres.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
ID_OF_KEY = re.compile(r"^(\S+?)=", re.M)


@pytest.fixture
def environment(tmp_path: Path, postgres_server: PostgresServer, loopback: LoopbackIssuer) -> dict[str, str]:
    """The environment of somebody who may create databases, with `authstate` and the programs of PostgreSQL."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "authstate").write_text(f'#!/bin/sh\nexec {" ".join(AUTHSTATE)} "$@"\n')
    (folder / "authstate").chmod(0o755)
    path = os.pathsep.join((str(folder), str(programs()), os.environ["PATH"]))
    fill(tmp_path / "home", loopback, email="person@example.com")
    (tmp_path / "nobody").mkdir()
    variables = {"PGHOST": str(postgres_server.folder), "PGUSER": "postgres", "PATH": path}
    return clean_environment(tmp_path / "nobody", **loopback.environment, **variables)


def test_the_blocks_of_the_page_work(
    tmp_path: Path, environment: dict[str, str], postgres_server: PostgresServer
) -> None:
    def run(command: list[str]) -> str:
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, (command, ran.stderr)
        return ran.stdout

    def logins() -> list[tuple[str, str]]:
        with psycopg.connect(postgres_server.url("logins")) as connection:
            found = connection.execute("SELECT account, key_id FROM authstate.accounts WHERE login IS NOT NULL")
            return found.fetchall()

    outputs: list[str] = []
    try:
        for language, text in BLOCKS:
            if language == "python":
                outputs.append(run([sys.executable, "-c", text]))
                continue
            assert language == "sh"
            for line in text.splitlines():
                if "logout" in line:
                    current = ID_OF_KEY.findall((tmp_path / "logins.keys").read_text())[0]
                    assert logins() == [("person-18", current)]
                outputs.append(run(["sh", "-c", line]))
                if "new-key" in line:
                    newest_first(tmp_path / "logins.keys")
        said = "".join(outputs)
        assert "The role agents may use them." in said
        assert "logged_out\n" in said
        assert "No other key encrypts a login or a lease." in said
        assert "Moved the login of home to account person-18 in PostgreSQL at" in said
        assert "Signed out of account person-18 in PostgreSQL at" in said
        assert logins() == []
    finally:
        with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS logins")
            connection.execute("DROP ROLE IF EXISTS agents")


def newest_first(path: Path) -> None:
    """Do what the page tells a person to do with the list of keys."""
    heading, *keys = path.read_text().splitlines()
    path.write_text("\n".join([heading, *reversed(keys), ""]))


def test_every_command_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["postgres", "--help"])
    listed = re.findall(r"^    ([a-z-]+)  ", capsys.readouterr().out, re.M)
    assert re.findall(r"^\| `authstate postgres ([a-z-]+)", PAGE, re.M) == listed


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    for step in re.findall(r"^\| `authstate postgres ([a-z-]+)", PAGE, re.M):
        with pytest.raises(SystemExit):
            parse(["postgres", step, "--help"])
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--config"}
        assert {option for option in options if option not in PAGE} == set()
