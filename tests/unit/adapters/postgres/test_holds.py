"""A hold ends by itself: who may write afterwards, and who may send a token."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.held_row import HeldRow
from authstate.adapters.postgres.keys import EncryptionKeys
from authstate.adapters.postgres.store import PostgresStore
from authstate.adapters.testing.tokens import make_tokens
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import NotSentInTime, StoreBusy, StoreUnavailable

KEY = ApiKey.parse("sk-holds-0123456789")
OTHER_KEY = ApiKey.parse("sk-other-0123456789")
TOKENS = make_tokens()
CLAIM = RefreshClaim(fingerprint_of(TOKENS.refresh_token)).after(RefreshClaimTrigger.CLAIM, 1_800_000_000.0)
SPENT = CLAIM.after(RefreshClaimTrigger.SETTLE, 1_800_000_001.0, successor="another")


class OwnClock:
    """The clock of one process that never jumps. A test lets it pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Machine:
    """One process with a store of the account."""

    def __init__(self, url: str, keys: EncryptionKeys) -> None:
        self.clock = OwnClock()
        self.database = PostgresDatabase(url, keys, connections=2, listens=False, elapsed=self.clock)
        self.store = PostgresStore(self.database, "alice", lock_timeout=0.0)


@pytest.fixture
async def machines(database_url: str, keys: EncryptionKeys) -> AsyncIterator[tuple[Machine, Machine]]:
    one, other = Machine(database_url, keys), Machine(database_url, keys)
    yield one, other
    await one.database.aclose()
    await other.database.aclose()


def let_the_hold_end(url: str, *, seconds_ago: float) -> None:
    """Let the time of the row's hold be over by the clock of the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        ended = "UPDATE authstate.accounts SET held_until = clock_timestamp() - %s * interval '1 second'"
        connection.execute(ended, (seconds_ago,))


async def test_a_hold_keeps_others_out_until_its_time_and_a_margin_are_over(
    machines: tuple[Machine, Machine], database_url: str
) -> None:
    one, other = machines
    async with one.store.locked():
        for ended in (-10.0, 0.0, 3.0):
            let_the_hold_end(database_url, seconds_ago=ended)
            with pytest.raises(StoreBusy, match=r"process .* on "):
                await other.store.locked().__aenter__()
        let_the_hold_end(database_url, seconds_ago=6.0)
        async with other.store.locked() as held:
            await held.save(KEY)


@pytest.mark.parametrize("write", ["save", "delete", "prepare", "record", "save_and_record", "renew"])
async def test_a_late_holder_writes_nothing_once_another_took_the_row(
    machines: tuple[Machine, Machine], database_url: str, write: str
) -> None:
    one, other = machines
    async with one.store.locked() as late:
        assert isinstance(late, HeldRow)
        let_the_hold_end(database_url, seconds_ago=60.0)
        async with other.store.locked() as held:
            await held.save(OTHER_KEY)
            with pytest.raises(StoreBusy, match="does not hold"):
                match write:
                    case "save":
                        await late.save(KEY)
                    case "delete":
                        await late.delete()
                    case "prepare":
                        await late.prepare()
                    case "record":
                        await late.record(CLAIM)
                    case "save_and_record":
                        await late.save_and_record(TOKENS, SPENT)
                    case _:
                        await late.renew()
            await held.prepare()  # the late holder did not end this hold
    assert await one.store.load() == OTHER_KEY
    assert await one.store.claim_on(CLAIM.fingerprint) is None


async def test_the_answer_of_a_late_holder_is_stored_if_nobody_took_the_row(
    machines: tuple[Machine, Machine], database_url: str
) -> None:
    one, other = machines
    async with one.store.locked() as late:
        assert isinstance(late, HeldRow)
        await late.record(CLAIM)
        let_the_hold_end(database_url, seconds_ago=3600.0)
        await late.save_and_record(TOKENS, SPENT)
    assert await other.store.load() == TOKENS
    found = await other.store.claim_on(CLAIM.fingerprint)
    assert found is not None and found.state is SPENT.state and found.successor == "another"


async def test_a_token_is_sent_only_while_its_answer_can_come_in_time(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    async with one.store.locked() as held:
        assert isinstance(held, HeldRow)
        with pytest.raises(NotSentInTime):
            held.ensure_may_send()  # the time for a sign-in is too short for a request
        await held.record(CLAIM)
        held.ensure_may_send()
        one.clock.seconds += 27.9
        held.ensure_may_send()
        one.clock.seconds += 0.2
        with pytest.raises(NotSentInTime):
            held.ensure_may_send()
        await held.renew()
        held.ensure_may_send()


async def test_who_lost_the_row_sends_nothing(machines: tuple[Machine, Machine], database_url: str) -> None:
    one, other = machines
    async with one.store.locked() as held:
        assert isinstance(held, HeldRow)
        await held.record(CLAIM)
        let_the_hold_end(database_url, seconds_ago=60.0)
        async with other.store.locked():
            with pytest.raises(StoreBusy):
                await held.renew()
            with pytest.raises(NotSentInTime):
                held.ensure_may_send()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], AbstractContextManager[None]]:
    """Cuts a machine off from the database for a while."""

    async def fail(statement: str, values: Mapping[str, Any]) -> None:
        raise StoreUnavailable("no connection")

    @contextmanager
    def cut_off(machine: Machine) -> Iterator[None]:
        with monkeypatch.context() as cut:
            cut.setattr(machine.database, "fetch", fail)
            yield

    return cut_off


async def test_a_store_that_could_not_store_its_answer_takes_its_row_again_at_once(
    machines: tuple[Machine, Machine], unreachable: Callable[[Machine], AbstractContextManager[None]]
) -> None:
    one, other = machines
    with ExitStack() as outage:
        async with one.store.locked() as held:
            assert isinstance(held, HeldRow)
            await held.record(CLAIM)
            outage.enter_context(unreachable(one))
            with pytest.raises(StoreUnavailable):
                await held.save_and_record(TOKENS, SPENT)
        with pytest.raises(StoreUnavailable):
            await one.store.locked().__aenter__()
    for another in (other.store, PostgresStore(one.database, "alice", lock_timeout=0.0)):
        with pytest.raises(StoreBusy):
            await another.locked().__aenter__()
    async with one.store.locked() as held:
        assert isinstance(held, HeldRow)
        await held.save_and_record(TOKENS, SPENT)
    async with other.store.locked() as held:
        assert await held.load() == TOKENS


async def test_a_row_that_another_process_took_meanwhile_is_not_taken_again(
    machines: tuple[Machine, Machine],
    database_url: str,
    unreachable: Callable[[Machine], AbstractContextManager[None]],
) -> None:
    one, other = machines
    with ExitStack() as outage:
        async with one.store.locked():
            outage.enter_context(unreachable(one))
    let_the_hold_end(database_url, seconds_ago=60.0)
    async with other.store.locked():
        with pytest.raises(StoreBusy):
            await one.store.locked().__aenter__()
    async with one.store.locked() as held:
        await held.save(KEY)


async def test_who_finds_what_others_stored_writes_nothing(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    async with one.store.locked() as held:
        await held.save(KEY)
        async with other.store.locked_unless(other.store.load) as found:
            assert found == KEY
        await held.prepare()


async def test_a_wait_ends_once_something_is_found(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    waiting = PostgresStore(other.database, "alice", lock_timeout=60.0)
    async with one.store.locked() as held:
        looked = asyncio.Event()

        async def look() -> Credentials | None:
            looked.set()
            return await waiting.load()

        async def wait() -> object:
            async with waiting.locked_unless(look) as found:
                return found

        waiter = asyncio.ensure_future(wait())
        await looked.wait()
        await held.save(KEY)
        assert await asyncio.wait_for(waiter, 60) == KEY
        await held.prepare()  # it is still held


@pytest.mark.parametrize("strange", ["\x00", "\ud800", "\udfff"])
async def test_a_refusal_with_a_character_that_a_database_cannot_store_is_recorded(
    machines: tuple[Machine, Machine], strange: str
) -> None:
    """A custom authority words its refusals as it likes."""
    store = machines[0].store
    async with store.locked() as held:
        await held.record(CLAIM)
        await held.record(CLAIM.after(RefreshClaimTrigger.REFUSE, 1_800_000_001.0, detail=f"refused {strange} here"))
    found = await store.claim_on(CLAIM.fingerprint)
    assert found is not None and (found.state, found.detail) == ("dead", "refused \ufffd here")
