"""`authstate postgres forget`, and what the other commands say of leases."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from support.postgres import run_statement

from authstate import ApiKey, KeyFile, PostgresDatabase
from authstate.adapters.cli.main import main
from authstate.adapters.database_broker.connection_health import ConnectionHealth
from authstate.adapters.database_broker.leases import DatabaseLeases
from authstate.engine.clock import SystemClock
from authstate.engine.machines.lease import LeaseRequest
from authstate.testing import make_tokens

TOKENS = make_tokens()
Captured = pytest.CaptureFixture[str]
T = TypeVar("T")


class Service:
    """What the processes of a service store in a database."""

    def __init__(self, url: str, keys: Path) -> None:
        self.url = url
        self.keys = keys

    def key_ids(self) -> list[str]:
        """The ids of the keys of its file, the first one first."""
        return [line.partition("=")[0] for line in self.keys.read_text().splitlines()[1:]]

    def put_new_key_first(self) -> None:
        assert main(["postgres", "new-key", "--keys", str(self.keys)]) == 0
        heading, *old, new = self.keys.read_text().splitlines()
        self.keys.write_text("\n".join([heading, new, *old]))

    def save(self, account: str) -> None:
        async def steps(database: PostgresDatabase) -> None:
            async with database.store(account).locked() as held:
                await held.save(ApiKey.parse(f"sk-{account}-0123456789"))

        self._run(steps)

    def lease(self, account: str, count: int = 1) -> list[str]:
        """Make leases. Returns their ids."""

        async def steps(database: PostgresDatabase) -> list[str]:
            leases = DatabaseLeases(database, ConnectionHealth(database, SystemClock()))
            made = [await leases.make(LeaseRequest(account, TOKENS.account, ttl=3600.0)) for _ in range(count)]
            return [lease.id for lease, _ in made]

        return self._run(steps)

    def leases(self) -> list[str]:
        """The ids of all leases."""
        return sorted(lease for (lease,) in run_statement(self.url, "SELECT id FROM authstate.leases"))

    def active(self) -> list[str]:
        """The ids of the leases that are not over."""
        found = run_statement(self.url, "SELECT id FROM authstate.leases WHERE state = 'active'")
        return sorted(lease for (lease,) in found)

    def _run(self, steps: Callable[[PostgresDatabase], Awaitable[T]]) -> T:
        async def run() -> T:
            async with PostgresDatabase(self.url, KeyFile(self.keys), connections=1, listens=False) as database:
                return await steps(database)

        return asyncio.run(run())


@pytest.fixture
def service(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Service:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    monkeypatch.setenv("AUTHSTATE_DATABASE_URL", database_url)
    assert main(["postgres", "new-key", "--keys", str(tmp_path / "keys")]) == 0
    capsys.readouterr()
    return Service(database_url, tmp_path / "keys")


def forget(service: Service, account: str, *more: str) -> int:
    return main(["postgres", "forget", account, "--keys", str(service.keys), *more])


def damage(service: Service, column: str, where: str) -> None:
    table = "accounts" if column == "login" else "leases"
    run_statement(service.url, f"UPDATE authstate.{table} SET {column} = '\\x01' WHERE {where}")


def test_the_leases_of_an_account_are_forgotten_with_its_login(service: Service, capsys: Captured) -> None:
    for account in ("alice", "bob"):
        service.save(account)
    service.lease("alice", 2)
    others = service.lease("bob")
    damage(service, "login", "account = 'alice'")
    assert forget(service, "alice") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Removed the login of account alice in PostgreSQL at ") and err == ""
    assert out.endswith(", and 2 leases. Sign in to it again.\n")
    assert service.leases() == others
    assert forget(service, "alice") == 1
    assert "no login is stored there. Nothing was removed." in capsys.readouterr().err


def test_a_lease_that_nobody_can_read_is_forgotten_alone(service: Service, capsys: Captured) -> None:
    service.save("alice")
    damaged, good = service.lease("alice", 2)
    damage(service, "details", f"id = '{damaged}'")
    assert forget(service, "alice") == 0
    assert "Removed 1 lease of account alice in PostgreSQL at" in capsys.readouterr().out
    assert service.leases() == [good]
    assert forget(service, "alice") == 1
    assert "can be read with these keys, so it was not removed" in capsys.readouterr().err


@pytest.mark.parametrize("damages", [1, 2])
def test_leases_that_nobody_can_read_are_ended(damages: int, service: Service, capsys: Captured) -> None:
    *damaged, good = service.lease("alice", damages + 1)
    for one in damaged:
        damage(service, "details", f"id = '{one}'")
    options = ("--store", service.url, "--keys", str(service.keys))
    assert main(["lease", "end", damaged[0], *options]) == 1
    out, err = capsys.readouterr()
    assert out == "" and f"the lease {damaged[0]} is over. What is stored of it cannot be read: the lease " in err
    assert service.active() == sorted([good, *damaged[1:]])
    assert main(["lease", "end", good, *options]) == 0
    assert capsys.readouterr().out == f"The lease {good} is over.\n"


@pytest.mark.parametrize(
    ("damages", "said"), [(1, "is over, and so are 2 others"), (2, "are over, and so are 2 others")]
)
def test_all_leases_are_ended_though_nobody_can_read_one(
    damages: int, said: str, service: Service, capsys: Captured
) -> None:
    made = service.lease("alice", damages + 2)
    for one in made[:damages]:
        damage(service, "details", f"id = '{one}'")
    options = ("--account", "alice", "--store", service.url, "--keys", str(service.keys))
    assert main(["lease", "end", "--all", *options]) == 1
    out, err = capsys.readouterr()
    assert out == "" and said in err and all(one in err for one in made[:damages])
    assert service.active() == []


def test_leases_whose_key_is_lost_are_forgotten_if_it_is_named(service: Service, capsys: Captured) -> None:
    service.lease("alice")
    [lost] = service.key_ids()
    service.put_new_key_first()
    service.keys.write_text("\n".join(service.keys.read_text().splitlines()[:2]))
    service.save("alice")
    [kept] = service.lease("alice")
    capsys.readouterr()
    assert main(["postgres", "rotate-key", "--keys", str(service.keys)]) == 1
    assert f"Keep {lost}: logins or leases need them." in capsys.readouterr().err
    assert forget(service, "alice") == 1
    assert forget(service, "alice", "--lost-key", lost) == 0
    assert service.leases() == [kept]
    assert main(["postgres", "rotate-key", "--keys", str(service.keys)]) == 0


def test_a_key_is_needed_until_the_leases_are_encrypted_anew(service: Service, capsys: Captured) -> None:
    service.save("alice")
    service.lease("alice", 3)
    service.put_new_key_first()
    new, old = service.key_ids()
    capsys.readouterr()
    assert main(["postgres", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["logins"], found["leases"]) == ({old: 1}, {old: 3})
    assert main(["postgres", "rotate-key", "--keys", str(service.keys)]) == 0
    assert capsys.readouterr().out.startswith(f"Encrypted 1 logins and 3 leases with the key {new}.\n")
    assert main(["postgres", "status"]) == 0
    assert f"  leases        3, encrypted: 3 by {new}\n" in capsys.readouterr().out
