"""Measures the time between the last check of a hold and the write of the token, in which a pause is not noticed.

    python -m faults.send_window --refreshes 500

Refreshes one account again and again with a real issuer and a real server. Prints a report as one JSON object.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from faults.stopped_holder import KEYS
from support.postgres import programs, running_server

from authstate import AuthEngine, ChatgptTokens, PostgresDatabase
from authstate.adapters.oauth import issuer_http
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens
from authstate.testing import LoopbackIssuer


class TimedWire(issuer_http._Wire):
    """Notes when a request is written."""

    written = 0.0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        await super().trace(event, info)
        if event.endswith("send_request_body.complete"):
            TimedWire.written = time.perf_counter()


class TimedAuthority(HttpTokenAuthority):
    """Notes when the last check has passed."""

    checked = 0.0

    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        def check() -> None:
            ensure_may_send()
            self.checked = time.perf_counter()

        return await super().refresh_if(refresh_token, check)


async def measure(url: str, issuer: LoopbackIssuer, refreshes: int) -> dict[str, Any]:
    """Refresh so many times. Returns the report, in microseconds."""
    issuer_http._Wire = TimedWire  # type: ignore[misc]
    authority, found = TimedAuthority(issuer.url, "client"), []
    async with PostgresDatabase(url, KEYS, listens=False) as database:
        store = database.store("alice")
        async with store.locked() as held:
            await held.save(ChatgptTokens.read(**issuer.seed()))
        async with AuthEngine(store, authority) as engine:
            for _ in range(refreshes):
                await engine.refresh()
                found.append((TimedWire.written - authority.checked) * 1e6)
    found.sort()
    return {
        "refreshes": refreshes,
        "median_us": round(median(found)),
        "p99_us": round(found[int(0.99 * len(found))]),
        "longest_us": round(found[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refreshes", type=int, default=500)
    options = parser.parse_args()
    with running_server(programs()) as server, LoopbackIssuer() as issuer:

        async def work() -> dict[str, Any]:
            return await measure(await server.new_database(), issuer, options.refreshes)

        json.dump(asyncio.run(work()), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
