"""Encrypts all logins of a PostgreSQL database with another key while processes refresh them.

    python -m faults.postgres_rotation --processes 3 --accounts 30

Each process refreshes its part of the first half of the accounts again and again, and still encrypts with the old key.
Meanwhile `authstate postgres rotate-key` runs as a command. Then the processes end, the command runs once more, and the
old key is forgotten. Prints a report as one JSON object.
"""

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from faults.forked_processes import exit_status_of, fork, token_digest
from faults.postgres_many import KEYS, sign_in
from support.postgres import programs, running_server
from support.wire_client import AUTHSTATE, clean_environment

from authstate import AuthEngine, ChatgptTokens, EncryptionKeys, PostgresDatabase
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.testing import LoopbackIssuer

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
OLD_FIRST = EncryptionKeys({"first": OLD, "second": NEW})
ONLY_NEW = EncryptionKeys({"second": NEW})


async def refresher(url: str, issuer: str, accounts: list[int], is_over: int, reports: int) -> None:
    """One process: refresh its accounts again and again, until a pipe has something to read."""
    os.set_blocking(is_over, False)
    async with PostgresDatabase(url, OLD_FIRST, listens=False) as database:
        last: dict[str, str] = {}
        while not (last and _closed(is_over)):
            is_first = not last
            for number in accounts:
                store = database.store(f"person-{number}")
                async with AuthEngine(store, HttpTokenAuthority(issuer, "client")) as engine:
                    await engine.refresh()
                    last[str(number)] = token_digest(engine.session.credentials)
            if is_first:
                os.write(reports, b"\n")
        os.write(reports, json.dumps(last).encode() + b"\n")


def _closed(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def rotate(url: str, folder: Path) -> str:
    """Run the command. Returns what it printed: a login may be encrypted with the old key again."""
    file = folder / "keys"
    lines = (f"{name}={base64.b64encode(key).decode()}" for name, key in (("second", NEW), ("first", OLD)))
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    command = [*AUTHSTATE, "postgres", "rotate-key", "--database", url, "--keys", str(file)]
    environment = clean_environment(folder)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def run(url: str, processes: int, accounts: int, folder: Path) -> dict[str, Any]:
    """Run once. Returns the report."""
    with LoopbackIssuer() as issuer:
        asyncio.run(sign_in(url, issuer, accounts))
        is_over, our_end = os.pipe()
        reports, their_reports = os.pipe()

        def child(number: int) -> Any:
            os.close(our_end)  # a pipe closes only when every process has closed it
            mine = list(range(number, accounts // 2, processes))
            return refresher(url, issuer.url, mine, is_over, their_reports)

        children = [fork(partial(child, number)) for number in range(processes)]
        os.close(their_reports)
        lines = os.fdopen(reports)
        for _ in children:
            lines.readline()
        meanwhile = rotate(url, folder)
        os.close(our_end)
        last: dict[str, str] = {}
        for line in lines:
            last |= json.loads(line)
        statuses = sorted({exit_status_of(child) for child in children})
        return {
            "meanwhile": meanwhile,
            "afterwards": rotate(url, folder),
            "keys": [row[0] for row in used_keys(url)],
            "lost_or_old": asyncio.run(differences(url, accounts, last)),
            "accounts_refreshed": len(last),
            "refreshes_refused": issuer.stats()["refreshes_refused"],
            "statuses": statuses,
        }


def used_keys(url: str) -> list[tuple[str]]:
    """The keys that encrypt a login."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT DISTINCT key_id FROM authstate.accounts WHERE login IS NOT NULL").fetchall()


async def differences(url: str, accounts: int, last: dict[str, str]) -> list[str]:
    """The accounts whose stored token is not the newest one. All are read, with the new key only."""
    found = []
    async with PostgresDatabase(url, ONLY_NEW, listens=False) as database:
        for number in map(str, range(accounts)):
            stored = await database.store(f"person-{number}").load()
            if not isinstance(stored, ChatgptTokens) or last.get(number, token_digest(stored)) != token_digest(stored):
                found.append(number)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=30)
    options = parser.parse_args()
    assert KEYS.ids == ("first",)
    with running_server(programs()) as server, tempfile.TemporaryDirectory() as folder:
        url = asyncio.run(server.new_database())
        json.dump(run(url, options.processes, options.accounts, Path(folder)), sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
