"""Lets many processes refresh many accounts of one PostgreSQL database at the same moment.

    python -m faults.postgres_many --processes 8 --accounts 500

Starts a real issuer and a real server, signs in with every account and forks the processes. Each of them has an engine
for each account, and all tokens have expired. So every account is refreshed once, by one of the processes. Prints a
report as one JSON object.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NamedTuple

import cryptography.hazmat.primitives.ciphers.aead
import psycopg_pool
from faults.forked_processes import exit_status_of, fork, token_digest
from support.postgres import programs, running_server

from authstate import AuthEngine, ChatgptTokens, EncryptionKeys, PostgresDatabase
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.errors import AuthError, TransientAuthError
from authstate.testing import LoopbackIssuer

Json = dict[str, Any]
KEYS = EncryptionKeys({"first": bytes(range(32))})
PATIENCE = 300.0
"""Seconds after which a process stops asking again."""
IMPORTED_BEFORE_THE_FORK = (cryptography, psycopg_pool)


async def sign_in(url: str, issuer: LoopbackIssuer, accounts: int) -> None:
    """Store an expired login for each account."""
    async with PostgresDatabase(url, KEYS, listens=False) as database:
        for number in range(accounts):
            async with database.store(f"person-{number}").locked() as held:
                await held.save(ChatgptTokens.read(**issuer.seed(expires_in=-60, account_id=f"org-{number}")))


class Work(NamedTuple):
    """What a process does."""

    url: str
    issuer: str
    accounts: int
    listens: bool
    is_patient: bool
    """Whether it asks again while the database or the issuer is not available."""


async def refresher(work: Work, start_pipe: int, reports: int) -> None:
    """One process: wait until `start_pipe` closes, then get a token of every account. Report all tokens as a digest."""
    url, issuer, accounts, listens, is_patient = work
    async with PostgresDatabase(url, KEYS, listens=listens) as database, AsyncExitStack() as engines:
        authority = HttpTokenAuthority(issuer, "client")
        await database.store("person-0").load()  # it is connected
        os.write(reports, b"\n")
        os.read(start_pipe, 1)

        async def token_of(number: int) -> str:
            store = database.store(f"person-{number}")
            engine = await engines.enter_async_context(AuthEngine(store, authority))
            gives_up_at = time.monotonic() + PATIENCE
            while True:
                try:
                    await engine.authorization()
                except AuthError as error:
                    if is_patient and isinstance(error, TransientAuthError) and time.monotonic() < gives_up_at:
                        await asyncio.sleep(0.1)  # it remembers the error for a while
                        continue
                    return f"{type(error).__name__}: {error}"
                return token_digest(engine.session.credentials)

        tokens = await asyncio.gather(*map(token_of, range(accounts)))
        errors = sorted({token for token in tokens if " " in token})[:3]
        report = {"tokens": hash(tuple(tokens)), "errors": errors, "finished": time.monotonic()}
        os.write(reports, json.dumps(report).encode()[:4000] + b"\n")


def run(
    url: str,
    processes: int,
    accounts: int,
    listens: bool,
    disturb: Callable[[], None] | None = None,
) -> Json:
    """Run once.

    Args:
        url: of an empty database.
        processes: how many.
        accounts: how many.
        listens: see `PostgresDatabase`.
        disturb: called once a quarter of the accounts is refreshed. The processes then ask until they have tokens.

    Returns:
        The report.
    """
    with LoopbackIssuer() as issuer:
        asyncio.run(sign_in(url, issuer, accounts))
        start, our_start = os.pipe()
        reports, their_reports = os.pipe()

        def child() -> Any:
            os.close(our_start)  # a pipe closes only when every process has closed it
            signal.alarm(600)  # end even if the run fails
            work = Work(url, issuer.url, accounts, listens, disturb is not None)
            return refresher(work, start, their_reports)

        children = [fork(partial(child)) for _ in range(processes)]
        os.close(their_reports)
        lines = os.fdopen(reports)
        for _ in children:
            lines.readline()
        began = time.monotonic()
        os.close(our_start)
        if disturb is not None:
            while issuer.stats()["refreshes_accepted"] < accounts / 4:
                assert time.monotonic() < began + PATIENCE, "too few accounts are refreshed"
            disturb()
        found = [json.loads(line) for line in lines]
        tokens = [report["tokens"] for report in found]
        stats = issuer.stats()
        seconds = max([report["finished"] for report in found], default=began) - began
        return {
            "processes": processes,
            "accounts": accounts,
            "refreshes_accepted": stats["refreshes_accepted"],
            "refreshes_refused": stats["refreshes_refused"],
            "processes_that_hold_the_same_tokens": max(map(tokens.count, tokens), default=0),
            "errors": sorted({error for report in found for error in report["errors"]}),
            "statuses": sorted({exit_status_of(child) for child in children}),
            "seconds": round(seconds, 2),
            "refreshes_per_second": round(stats["refreshes_accepted"] / seconds, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--url", help="an empty database with all tables; by default a server is started")
    parser.add_argument("--listens", action=argparse.BooleanOptionalAction, default=True, help="as a process does")
    options = parser.parse_args()
    if options.url:
        report = run(options.url, options.processes, options.accounts, options.listens)
    else:
        with running_server(programs()) as server:
            url = asyncio.run(server.new_database())
            report = run(url, options.processes, options.accounts, options.listens)
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
