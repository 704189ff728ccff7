"""Lets a PostgreSQL server fail while many processes refresh many accounts at the same moment.

    python -m faults.postgres_failover restart --processes 8 --accounts 500

`restart`: the server is stopped at once, as in a crash, and started again. `promotion`: it is stopped at once, and its
synchronous standby takes over. Both happen when a quarter of the accounts is refreshed. The processes ask until they
have a token of every account. Prints the report of postgres_many.py as one JSON object, and what is stored in the end.
"""

import argparse
import asyncio
import json
import logging
import sys

from faults.forked_processes import token_digest
from faults.postgres_many import KEYS, Json, run
from support.postgres import PostgresServer, programs, running_server
from support.postgres_pair import running_pair

from authstate import PostgresDatabase


async def stored(url: str, accounts: int) -> set[str]:
    """Digests of all refresh tokens that are stored."""
    async with PostgresDatabase(url, KEYS, listens=False) as database:
        return {token_digest(await database.store(f"person-{number}").load()) for number in range(accounts)}


def restart(processes: int, accounts: int) -> Json:
    """Run while a server crashes and comes back."""
    with running_server(programs()) as server:
        url = asyncio.run(server.new_database())
        report = run(url, processes, accounts, True, lambda: crash(server))
        return report | {"logins_stored": len(asyncio.run(stored(url, accounts)))}


def crash(server: PostgresServer) -> None:
    server.stop("immediate")
    server.start()


def promotion(processes: int, accounts: int) -> Json:
    """Run while a standby becomes the primary."""
    with running_pair(programs()) as pair:
        url = pair.url(asyncio.run(pair.primary.new_database()))
        pair.wait_for_standbys()
        report = run(url, processes, accounts, True, pair.fail_over)
        return report | {"logins_stored": len(asyncio.run(stored(url, accounts)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("restart", "promotion"))
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--accounts", type=int, default=500)
    options = parser.parse_args()
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # it tells each try to connect
    fails = restart if options.kind == "restart" else promotion
    json.dump(fails(options.processes, options.accounts), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
