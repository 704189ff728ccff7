"""The warm answers of `authstate broker --store`: from its own process, to clients in theirs."""

import asyncio
import base64
import json
from pathlib import Path

from benchmarks.postgres_accounts import KEY, KEY_ID, KEYS, new_database
from benchmarks.postgres_figures import Figure
from benchmarks.token_load import load
from support.brokers import BrokerService
from support.database_brokers import machine, store
from support.postgres import PostgresServer

from authstate.adapters.broker.account_tokens import make_lease
from authstate.testing import FakeAuthority, LoopbackIssuer, make_tokens

CLIENTS = 2
LEASES = 12  # for each client and each try
TRIES = 5
ANSWERS_A_SECOND = 2000
P50 = 1.0  # ms


def broker_answers(running: PostgresServer, folder: Path) -> list[Figure]:
    """Ask a broker for an access token that it has, with leases of one account. The best of some tries counts."""
    url, home, keys = new_database(running, "broker"), folder / "home", folder / "keys"
    home.mkdir()
    keys.write_text(f"{KEY_ID}={base64.b64encode(KEY).decode()}\n")
    keys.chmod(0o600)
    handles = iter(asyncio.run(leases(url, folder, TRIES * LEASES * (CLIENTS + 1) + 1)))

    def requests(count: int) -> list[str]:
        named = {"client_id": "app", "grant_type": "refresh_token", "refresh_reason": "scheduled"}
        return [json.dumps({**named, "refresh_token": next(handles)}) for _ in range(count)]

    rates, medians = [], []
    with LoopbackIssuer() as issuer, BrokerService(home, issuer, "--store", url, "--keys", str(keys)) as broker:
        port = int(broker.url.rpartition(":")[2])
        load(port, requests(1), 1)
        for _ in range(TRIES):
            rates.append(load(port, requests(CLIENTS * LEASES), CLIENTS)[0])
            medians.append(load(port, requests(LEASES), 1)[1] * 1e3)
            if max(rates) >= ANSWERS_A_SECOND and min(medians) <= P50:
                break
    return [
        Figure("warm answers of a broker, two clients", max(rates), "a second", at_least=ANSWERS_A_SECOND),
        Figure("a warm answer of a broker, one client, median", min(medians), "ms", at_most=P50),
    ]


async def leases(url: str, folder: Path, count: int) -> list[str]:
    """Sign in, and make so many leases. Returns their handles."""
    async with machine(url, KEYS, FakeAuthority(), folder) as place:
        await store(place.database, make_tokens(), "alice")
        return [(await make_lease(place.broker, "alice", 3600.0)).handle.secret.reveal() for _ in range(count)]
