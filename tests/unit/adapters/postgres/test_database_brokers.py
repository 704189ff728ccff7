"""Two brokers on one database: any of them answers any client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import unquote

import httpx
import psycopg
import pytest
from support.database_brokers import Machine, machine, sign_in, stored

from authstate import EncryptionKeys, NotSignedIn, PostgresDatabase
from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.event_streams import SseStreams
from authstate.adapters.broker.local_api import LocalApp, Place
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.config.home import ConfigError
from authstate.adapters.database_broker import leases as database_leases
from authstate.engine.machines.lease import LeaseState
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, make_tokens


@pytest.fixture
def authority() -> FakeAuthority:
    return FakeAuthority()


@pytest.fixture
async def machines(
    database_url: str, keys: EncryptionKeys, authority: FakeAuthority, tmp_path: Path
) -> AsyncIterator[tuple[Machine, Machine]]:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(machine(database_url, keys, authority, tmp_path)) for _ in range(2)
        ]
        yield one, other


async def until_heard(database: PostgresDatabase) -> None:
    """Wait until notifications are heard."""
    async with asyncio.timeout(60):
        while not database.changes.is_listening:  # noqa: ASYNC110 - no event is set when it is heard
            await asyncio.sleep(0.01)


def presented(text: str | None) -> Secret:
    assert text is not None
    return Secret(text)


async def test_a_lease_of_one_broker_is_good_at_the_other(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, other = machines
    tokens = await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", 60.0, "a sandbox")
    assert (made.lease.label, made.account.id, len(made.lease.id)) == ("a sandbox", "alice", 16)
    first = await other.ask(made.handle.secret)
    assert first.access_token == tokens.access_token.reveal()
    second = await one.ask(presented(first.refresh_token))  # it has the current one, so it needs a new one
    assert authority.sent == [tokens.refresh_token.reveal()]
    third = await other.ask(presented(first.refresh_token))  # the other broker has it as soon as it is asked
    assert second.access_token == third.access_token != first.access_token
    assert second.access_token == (await stored(one.database)).access_token.reveal()
    assert len(authority.sent) == 1


async def test_a_lease_that_was_ended_stops_at_once_where_notifications_are_heard(
    machines: tuple[Machine, Machine], authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_leases, "KEPT", 3600.0)
    one, other = machines
    await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", None)
    await other.ask(made.handle.secret)
    await until_heard(other.database)
    watch = other.broker.leases.watch()
    ended = await one.broker.leases.end(made.lease.id)
    assert ended.state is LeaseState.ENDED
    async with asyncio.timeout(60):
        while not (told := await watch.look()):  # noqa: ASYNC110 - no event is set when it is heard
            await asyncio.sleep(0.01)
    assert told == [ended]
    for place in (one, other):
        with pytest.raises(OAuthRefusal, match="was ended") as refused:
            await place.ask(made.handle.secret)
        assert refused.value.error is OAuthError.INVALID_GRANT
    assert (await one.broker.leases.end(made.lease.id)).state is LeaseState.ENDED


async def test_without_notifications_an_ended_lease_stops_after_its_time(
    database_url: str, keys: EncryptionKeys, monkeypatch: pytest.MonkeyPatch, authority: FakeAuthority, tmp_path: Path
) -> None:
    async with (
        machine(database_url, keys, authority, tmp_path) as one,
        machine(database_url, keys, authority, tmp_path) as other,
    ):
        await sign_in(one.database, authority)
        made = await make_lease(one.broker, "alice", None)
        await other.ask(made.handle.secret)
        await other.database.changes.aclose()
        elapsed = other.database.elapsed
        other.database.elapsed = lambda: elapsed() + database_leases.KEPT
        await one.broker.leases.end(made.lease.id)
        with pytest.raises(OAuthRefusal, match="was ended"):
            await other.ask(made.handle.secret)


async def test_a_warm_broker_asks_the_database_once_for_many_answers(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, _ = machines
    await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", 60.0)
    await until_heard(one.database)
    for _ in range(3):
        await one.ask(made.handle.secret)
    now = one.database.elapsed()
    one.database.elapsed = lambda: now
    await one.ask(made.handle.secret)
    before = one.database.statements
    for _ in range(20):
        await one.ask(made.handle.secret)
    assert one.database.statements == before
    one.database.elapsed = lambda: now + database_leases.KEPT
    await asyncio.gather(*(one.ask(made.handle.secret) for _ in range(20)))
    assert one.database.statements == before + 1


async def test_time_is_over_by_the_clock_of_the_database_and_stays_over(
    machines: tuple[Machine, Machine], authority: FakeAuthority, database_url: str
) -> None:
    one, other = machines
    await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", 3600.0)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE authstate.leases SET expires_at = clock_timestamp() - interval '1 second'")
        with pytest.raises(OAuthRefusal, match="expired at"):
            await other.ask(made.handle.secret)
        connection.execute("UPDATE authstate.leases SET expires_at = clock_timestamp() + interval '1 hour'")
    with pytest.raises(OAuthRefusal, match="expired at"):
        await one.ask(made.handle.secret)


async def test_an_old_lease_is_removed(
    machines: tuple[Machine, Machine], authority: FakeAuthority, database_url: str
) -> None:
    one, _ = machines
    await sign_in(one.database, authority)
    old = await make_lease(one.broker, "alice", 60.0)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE authstate.leases SET over_at = clock_timestamp() - interval '31 days'")
    new = await make_lease(one.broker, "alice", None)
    assert [lease.id for lease in await one.broker.leases.listed("alice")] == [new.lease.id]
    with pytest.raises(ConfigError, match="there is no lease"):
        await one.broker.leases.end(old.lease.id)


async def test_all_leases_of_an_account_are_ended(machines: tuple[Machine, Machine], authority: FakeAuthority) -> None:
    one, other = machines
    for account in ("alice", "bob"):
        await sign_in(one.database, authority, account)
    made = [await make_lease(one.broker, account, None) for account in ("alice", "alice", "bob")]
    assert await other.broker.leases.end_all("alice") != ()
    assert await other.broker.leases.end_all("alice") == ()
    await other.ask(made[2].handle.secret)
    with pytest.raises(OAuthRefusal, match="was ended"):
        await other.ask(made[0].handle.secret)
    for ask in (one.broker.leases.listed, one.broker.leases.end_all, one.broker.accounts.find):
        with pytest.raises(ConfigError, match="name an account"):
            await ask(None)
    with pytest.raises(ConfigError, match="there is no account 'nobody'"):
        await make_lease(one.broker, "nobody")
    with pytest.raises(ConfigError, match="is no account"):
        await make_lease(one.broker, "person@example.com")


async def test_a_lease_moved_to_another_account_or_handle_is_not_read(
    machines: tuple[Machine, Machine], authority: FakeAuthority, database_url: str
) -> None:
    one, other = machines
    for account in ("alice", "bob"):
        await sign_in(one.database, authority, account)
    made = await make_lease(one.broker, "alice", None)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE authstate.leases SET account = 'bob'")
    with pytest.raises(OAuthRefusal) as refused:
        await other.ask(made.handle.secret)
    assert refused.value.error is OAuthError.TEMPORARILY_UNAVAILABLE


async def test_a_refresh_token_finds_its_owner_by_an_index(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, other = machines
    for number in range(5):
        await sign_in(one.database, authority, f"user-{number}")
    old = await stored(one.database, "user-3")
    first = await one.ask(old.refresh_token)
    assert first.account == "user-3" and first.refresh_token is None
    assert authority.sent == [old.refresh_token.reveal()]
    await until_heard(one.database)  # so that nothing else asks the database
    late = await other.ask(old.refresh_token)  # it was refreshed since, and the same login is stored
    assert late.access_token == first.access_token and len(authority.sent) == 1
    before = one.database.statements
    with pytest.raises(OAuthRefusal, match="has this refresh token"):
        await one.ask(make_tokens().refresh_token)
    assert one.database.statements == before + 1
    async with one.database.store("user-3").locked() as held:
        await held.delete()
    for place in machines:
        with pytest.raises(OAuthRefusal):
            await place.ask(old.refresh_token)
    with pytest.raises(NotSignedIn, match="the program that stores logins in PostgreSQL at"):
        await make_lease(one.broker, "user-3")


async def test_many_clients_of_two_brokers_cause_one_refresh(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, other = machines
    tokens = await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", None)
    handle = made.handle.text(tokens.access_token)
    answers = await asyncio.gather(*(place.ask(handle) for place in (one, other) * 8))
    assert len({answer.access_token for answer in answers}) == 1
    assert authority.sent == [tokens.refresh_token.reveal()]


async def test_revoking_a_handle_ends_its_lease_only(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, other = machines
    tokens = await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", None)
    await other.broker.grants.revoke(made.handle.secret)
    assert await stored(one.database) == tokens
    assert [lease.state for lease in await one.broker.leases.listed("alice")] == [LeaseState.ENDED]


async def test_the_database_shows_no_handle_label_or_owner(
    machines: tuple[Machine, Machine], authority: FakeAuthority, database_url: str
) -> None:
    one, _ = machines
    tokens = await sign_in(one.database, authority)
    made = await make_lease(one.broker, "alice", None, "label-of-alice")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT l::text, encode(details, 'escape') FROM authstate.leases l").fetchall()
    shown = str(rows)
    assert made.handle.digest in shown and made.lease.id in shown
    secret = made.handle.secret.reveal().removeprefix("authstate_lease_")
    for hidden in (secret, "label-of-alice", tokens.account.account_id, tokens.access_token.reveal()):
        assert hidden is not None and hidden not in shown


async def test_the_json_api_names_accounts_by_their_ids(
    machines: tuple[Machine, Machine], authority: FakeAuthority
) -> None:
    one, _ = machines
    await sign_in(one.database, authority)
    metrics = BrokerMetrics(one.broker)
    app = LocalApp(one.broker, metrics, SseStreams(one.broker, metrics), Place("http://127.0.0.1:4517", None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        state = await client.get("/v1/state")
        assert state.json()["database"] == one.database.place
        assert (state.json()["home"], state.json()["accounts"], state.json()["leases"]) == (None, None, None)
        assert unquote(state.headers["authstate-home"]) == one.database.place
        account = (await client.get("/v1/accounts/alice")).json()
        assert (account["id"], account["state"], account["isSelected"]) == ("alice", "chatgpt", False)
        assert account["store"] == one.database.store("alice").describe()
        token = (await client.get("/v1/token", params={"account": "alice"})).json()
        assert token["token"] == (await stored(one.database)).access_token.reveal()
        made = (await client.post("/v1/leases", json={"account": "alice", "label": "ci"})).json()
        assert made["lease"]["account"] == {"id": "alice", "name": "alice"}
        listed = (await client.get("/v1/leases", params={"account": "alice"})).json()
        assert listed == {"leases": [made["lease"]]}
        ended = (await client.delete("/v1/leases", params={"account": "alice"})).json()
        assert [lease["state"] for lease in ended["leases"]] == ["ended"]
        for method, path, status in (
            ("GET", "/v1/accounts", 400),
            ("GET", "/v1/accounts/nobody", 404),
            ("GET", "/v1/accounts/person@example.com", 404),
            ("GET", "/v1/token", 404),
            ("GET", "/v1/leases", 400),
            ("DELETE", "/v1/leases", 400),
            ("DELETE", "/v1/leases/0123456789abcdef", 404),
            ("POST", "/v1/leases", 404),
        ):
            assert (await client.request(method, path)).status_code == status, (method, path)
