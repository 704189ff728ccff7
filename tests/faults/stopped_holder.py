"""A process that refreshes one account of a PostgreSQL database, and stops itself (SIGSTOP) at a chosen step.

    python -m faults.stopped_holder URL ISSUER STEP CLOCK

It stops at the first moment of that name, and goes on after SIGCONT and a line on its standard input. "never" is no
moment, and "a, b" are two. CLOCK is a file
with the seconds by which its clock is ahead: whoever stops it writes there for how long it was stopped. It asks for a
token until it has one, three times at most, and prints one JSON object.
"""

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faults.forked_processes import token_digest

from authstate import AuthEngine, EncryptionKeys, PostgresDatabase, RefreshSettings
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.postgres import statements
from authstate.adapters.postgres.connections import Row, boot_time
from authstate.engine.model.errors import AuthError
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens

KEYS = EncryptionKeys({"first": bytes(range(32))})
SETTINGS = RefreshSettings(rechecks=(0.0,))
STATEMENTS = {
    statements.TAKE: "take",
    statements.CLAIM: "claim",
    statements.SETTLE: "settle",
    statements.RELEASE: "release",
}
TRIES = 3

Reach = Callable[[str], None]


class SteppedDatabase(PostgresDatabase):
    """Tells before and after each statement that it is reached."""

    reach: Reach

    async def _fetch_once(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        name = STATEMENTS.get(statement, "other")
        self.reach(f"before {name}")
        row = await super()._fetch_once(statement, values)
        self.reach(f"after {name}")
        return row


class SteppedAuthority(HttpTokenAuthority):
    """Tells before and after the last check that it is reached, and once there is an answer."""

    reach: Reach

    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        def check() -> None:
            self.reach("before check")
            ensure_may_send()
            self.reach("before write")

        answer = await super().refresh_if(refresh_token, check)
        self.reach("after answer")
        return answer


def stop_at(step: str) -> Reach:
    """Return what stops this process when it first reaches a step, or each of several."""
    left = step.split(", ")

    def reach(name: str) -> None:
        if name in left:
            left.remove(name)
            os.kill(os.getpid(), signal.SIGSTOP)
            sys.stdin.readline()

    return reach


def clock_in(file: Path) -> Callable[[], float]:
    """Return a clock that is ahead by the seconds in a file."""
    return lambda: boot_time() + struct.unpack("d", file.read_bytes())[0]


def advance(file: Path, seconds: float) -> None:
    """Let the clock of a file be ahead by so many seconds."""
    file.write_bytes(struct.pack("d", seconds))


async def hold(url: str, issuer: str, step: str, clock: Path) -> dict[str, Any]:
    """Refresh. Returns the errors, and a digest of the refresh token in the end."""
    reach = stop_at(step)
    async with SteppedDatabase(url, KEYS, connections=1, listens=False, elapsed=clock_in(clock)) as database:
        database.reach = reach
        authority = SteppedAuthority(issuer, "client")
        authority.reach = reach
        errors: list[str] = []
        async with AuthEngine(database.store("alice"), authority, settings=SETTINGS) as engine:
            while len(errors) < TRIES:
                try:
                    await engine.authorization()
                    break
                except AuthError as error:
                    errors.append(f"{type(error).__name__}: {error}")
            return {"errors": errors, "token": token_digest(engine.session.credentials)}


if __name__ == "__main__":
    place, issuer_url, wanted, clock_file = sys.argv[1:]
    print(json.dumps(asyncio.run(hold(place, issuer_url, wanted, Path(clock_file)))))
