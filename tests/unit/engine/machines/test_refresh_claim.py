"""Claims: what is known of refresh tokens that were sent, and what every process makes of it."""

import asyncio
from pathlib import Path
from random import Random

import msgspec
import pytest

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.flows.pending_tokens import PendingTokens, RefreshResult
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.machines.refresh_claim import (
    MAX_CLAIMS,
    REFRESH_CLAIM_TABLE,
    RefreshClaim,
    RefreshClaimState,
    RefreshClaimTrigger,
    fingerprint_of,
    format_time,
    with_claim,
)
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInDoubt,
    StoreUnavailable,
    TransitionRefused,
)
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

LOST = IssuerUnavailable("reset", delivery=Delivery.UNKNOWN)
UNSENT = IssuerUnavailable("no route", delivery=Delivery.NOT_SENT)
BUSY = IssuerUnavailable("503", delivery=Delivery.NOT_PROCESSED)


def ignore(code: str, message: str) -> None:
    """Warn nobody."""


class SharedLogin:
    """One login in one store, an issuer, and any number of processes."""

    def __init__(self, store: MemoryStore | None = None, expires_in: float = -1.0) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.store = store or MemoryStore()
        self.store.credentials = self.tokens
        self.authority = FakeAuthority(self.tokens, clock=self.clock)

    def process(self) -> Refresher:
        """A new process: it remembers nothing."""
        settings = RefreshSettings()
        pending = PendingTokens(self.clock, settings.save_waits, ignore)
        return Refresher(self.store, self.authority, self.clock, Random(1), settings, pending, ignore)

    async def run(
        self, process: Refresher, *, is_usable: bool = False, current: ChatgptTokens | None = None
    ) -> RefreshResult:
        """One refresh, with as much time as it wants."""
        task = asyncio.create_task(process.run(current or self.tokens, lambda: is_usable, RefreshProgress()))
        await self.clock.elapse(40)
        return await task

    def engine(self) -> AuthEngine:
        return AuthEngine(self.store, self.authority, clock=self.clock)

    @property
    def claim(self) -> RefreshClaim | None:
        return self.store.claims.get(fingerprint_of(self.tokens.refresh_token))


async def lose(home: SharedLogin, times: int = 2) -> None:
    """A refresh whose request and repeat get no answer."""
    home.authority.fail_next(LOST, times)
    with pytest.raises(RefreshInDoubt):
        await home.run(home.process())


# The table


@pytest.mark.parametrize("trigger", RefreshClaimTrigger)
@pytest.mark.parametrize("state", RefreshClaimState)
def test_every_cell_of_the_table(state: RefreshClaimState, trigger: RefreshClaimTrigger) -> None:
    before = RefreshClaim("ab" * 16, state, at=5.0, sends=1)
    target = REFRESH_CLAIM_TABLE.target(state, trigger)
    if target is None:
        with pytest.raises(TransitionRefused):
            before.after(trigger, 9.0)
        return
    after = before.after(trigger, 9.0)
    assert after.state == target
    assert after.sends == (2 if trigger is RefreshClaimTrigger.CLAIM else 1)
    assert after.at == (5.0 if before.is_in_doubt and after.is_in_doubt else 9.0)


def test_what_is_spent_or_dead_stays_so() -> None:
    assert REFRESH_CLAIM_TABLE.finals == (RefreshClaimState.SPENT, RefreshClaimState.DEAD)


@pytest.mark.parametrize("strange", ["\x00", "\ud800", "\udfff"])
def test_a_detail_holds_only_what_every_store_can_keep(strange: str) -> None:
    refused = RefreshClaim("a", RefreshClaimState.CLAIMED).after(RefreshClaimTrigger.REFUSE, 1.0, detail=f"x{strange}")
    assert refused.detail == "x\ufffd"
    assert msgspec.structs.replace(refused, detail=f"{strange}é\n").detail == "\ufffdé\n"


def test_the_last_64_claims_are_kept_and_a_free_one_is_forgotten() -> None:
    claims: dict[str, RefreshClaim] = {}
    for number in range(65):
        claims = with_claim(claims, RefreshClaim(str(number), RefreshClaimState.SPENT))
    assert list(claims) == [str(number) for number in range(1, 65)]
    claims = with_claim(claims, RefreshClaim("1", RefreshClaimState.DEAD))
    assert list(claims)[-1] == "1" and len(claims) == 64
    assert "1" not in with_claim(claims, RefreshClaim("1", RefreshClaimState.FREE))


def test_a_fingerprint_says_nothing_of_the_token() -> None:
    fingerprint = fingerprint_of(Secret("rt-canary"))
    assert len(fingerprint) == 32 and int(fingerprint, 16)
    assert "canary" not in fingerprint and fingerprint != fingerprint_of(Secret("rt-canary2"))


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "1970-01-01 00:00:00 UTC"), (float("inf"), "an unknown time")])
def test_a_time_that_no_calendar_has_is_no_fault(seconds: float, shown: str) -> None:
    assert format_time(seconds) == shown


# Dead: sent once in the life of the login


@pytest.mark.parametrize("reason", ["expired", "revoked", "unknown", "exhausted"])
async def test_a_dead_token_is_sent_once_whatever_process_asks(reason: str) -> None:
    home = SharedLogin()
    home.authority.kill(RefreshDeadReason(reason))
    told = set()
    for _ in range(3):
        with pytest.raises(PermanentRefreshError) as dead:
            await home.run(home.process())
        told.add(str(dead.value))
    assert len(home.authority.sent) == 1
    assert len(told) == 1, "every process says the same"
    assert dead.value.reason == reason


async def test_new_tokens_after_a_dead_one_are_none_of_its_business() -> None:
    home = SharedLogin()
    home.authority.kill()
    with pytest.raises(PermanentRefreshError):
        await home.run(home.process())
    home.tokens = home.store.credentials = home.authority.accept(make_tokens(expires_in=-1, now=home.clock.now()))
    assert not (await home.run(home.process())).was_adopted


async def test_a_restored_backup_is_not_sent_by_a_new_process() -> None:
    home = SharedLogin()
    await home.run(home.process())
    home.store.credentials = home.tokens
    with pytest.raises(PermanentRefreshError, match=r"holds tokens that this process replaced at .* restored backup"):
        await home.run(home.process())
    assert len(home.authority.sent) == 1


async def test_a_restored_backup_does_not_replace_what_another_process_adopted() -> None:
    home = SharedLogin()
    newer = (await home.run(home.process())).tokens
    home.clock.advance(3600)
    home.store.credentials = home.tokens
    assert not (await home.run(home.process(), current=newer)).was_adopted
    assert home.authority.sent == [home.tokens.refresh_token.reveal(), newer.refresh_token.reveal()]


# Doubt


async def test_a_lost_answer_is_repeated_once_at_once_and_then_left() -> None:
    home = SharedLogin()
    await lose(home)
    assert len(home.authority.sent) == 2
    assert home.clock.slept in ([], [0.0])
    assert home.claim is not None and (home.claim.state, home.claim.sends) == (RefreshClaimState.DOUBTFUL, 1)


async def test_the_repeat_may_bring_the_answer() -> None:
    home = SharedLogin()
    home.authority.fail_next(LOST)
    brought = await home.run(home.process())
    assert not brought.was_adopted
    assert home.claim is not None and home.claim.state is RefreshClaimState.SPENT
    assert home.claim.successor == fingerprint_of(brought.tokens.refresh_token)


@pytest.mark.parametrize("second", [UNSENT, BUSY, LOST], ids=["unsent", "busy", "lost"])
async def test_whatever_becomes_of_the_repeat_there_is_no_third(second: IssuerUnavailable) -> None:
    home = SharedLogin()
    home.authority.fail_next(LOST)
    home.authority.fail_next(second)
    with pytest.raises(RefreshInDoubt) as doubt:
        await home.run(home.process())
    assert doubt.value.is_new
    assert len(home.authority.sent) == 2
    assert home.claim is not None and home.claim.is_in_doubt


async def test_a_doubt_is_left_alone_while_the_access_token_is_usable() -> None:
    home = SharedLogin()
    await lose(home)
    with pytest.raises(RefreshInDoubt, match=r"The answer to a refresh by this process at 20.* was lost") as doubt:
        await home.run(home.process(), is_usable=True)
    assert not doubt.value.is_new
    assert len(home.authority.sent) == 2


async def test_a_doubt_is_sent_again_when_a_token_is_needed() -> None:
    home = SharedLogin()
    await lose(home)
    assert not (await home.run(home.process())).was_adopted
    assert len(home.authority.sent) == 3


@pytest.mark.parametrize("reason", [RefreshDeadReason.EXHAUSTED, RefreshDeadReason.REVOKED])
async def test_a_refusal_after_a_doubt_is_explained_by_it(reason: RefreshDeadReason) -> None:
    home = SharedLogin()
    await lose(home)
    home.authority.kill(reason)
    for _ in range(2):
        with pytest.raises(PermanentRefreshError, match="Probably an earlier refresh spent it: the answer to"):
            await home.run(home.process())
    assert len(home.authority.sent) == 3


async def test_a_refusal_of_the_repeat_is_explained_by_the_first() -> None:
    home = SharedLogin()
    home.authority.fail_next(LOST)
    home.authority.kill(RefreshDeadReason.EXHAUSTED)
    with pytest.raises(PermanentRefreshError, match="Probably this program spent it"):
        await home.run(home.process())


async def test_a_process_that_ended_in_the_middle_leaves_a_doubt() -> None:
    """What a killed process leaves is its claim: nobody withdrew it."""
    home = SharedLogin()
    await lose(home)
    assert home.claim is not None
    fingerprint = home.claim.fingerprint
    home.store.claims = {
        fingerprint: RefreshClaim(fingerprint, RefreshClaimState.CLAIMED, home.clock.now(), "process 77", 1)
    }
    with pytest.raises(RefreshInDoubt, match=r"^Process 77 ended in the middle of a refresh at 20"):
        await home.run(home.process(), is_usable=True)
    home.authority.kill(RefreshDeadReason.EXHAUSTED)
    with pytest.raises(PermanentRefreshError, match="process 77 ended in the middle of a refresh") as dead:
        await home.run(home.process())
    assert "another machine" not in str(dead.value)


@pytest.mark.parametrize("error", [UNSENT, BUSY, IssuerUnavailable("400", delivery=Delivery.REFUSED)])
async def test_what_was_not_processed_leaves_no_doubt(error: IssuerUnavailable) -> None:
    home = SharedLogin()
    home.authority.fail_next(error, 99)
    with pytest.raises(IssuerUnavailable, match=str(error)):
        await home.run(home.process())
    assert home.claim is None


async def test_what_was_not_processed_does_not_end_an_earlier_doubt() -> None:
    home = SharedLogin()
    await lose(home)
    home.authority.fail_next(UNSENT, 99)
    with pytest.raises(IssuerUnavailable, match="no route"):
        await home.run(home.process())
    assert home.claim is not None and home.claim.state is RefreshClaimState.DOUBTFUL


async def test_a_refresh_that_is_cancelled_between_two_tries_withdraws_its_claim() -> None:
    home = SharedLogin()
    home.authority.fail_next(BUSY, 99)
    task = asyncio.create_task(home.process().run(home.tokens, lambda: False, RefreshProgress()))
    await home.clock.until_asleep()
    assert home.claim is not None and home.claim.state is RefreshClaimState.CLAIMED
    task.cancel()
    await asyncio.wait((task,))
    assert home.claim is None


async def test_the_claim_is_there_before_the_token_is_sent() -> None:
    home = SharedLogin()
    home.authority.hold()
    task = asyncio.create_task(home.process().run(home.tokens, lambda: False, RefreshProgress()))
    await home.authority.asked()
    assert home.claim is not None and home.claim.state is RefreshClaimState.CLAIMED
    home.authority.release()
    await task
    assert home.claim is not None and home.claim.state is RefreshClaimState.SPENT


# What a process remembers where the claims are lost


async def test_a_spent_or_dead_token_is_not_sent_again_though_its_claim_is_lost() -> None:
    home = SharedLogin()
    process = home.process()
    await home.run(process)
    home.store.credentials, home.store.claims = home.tokens, {}
    with pytest.raises(PermanentRefreshError) as spent:
        await home.run(process)
    assert spent.value.reason is RefreshDeadReason.EXHAUSTED
    home.tokens = home.store.credentials = home.authority.accept(make_tokens(now=home.clock.now()))
    home.authority.kill(RefreshDeadReason.REVOKED)
    for _ in range(2):
        with pytest.raises(PermanentRefreshError) as dead:
            await home.run(process)
        home.store.claims = {}
    assert dead.value.reason is RefreshDeadReason.REVOKED
    assert len(home.authority.sent) == 2


async def test_claims_that_cannot_be_read_make_no_token_outdated() -> None:
    home = SharedLogin()

    async def broken(fingerprint: str) -> None:
        raise StoreUnavailable("the disk is gone")

    home.store.claim_on = broken
    assert not await home.process().is_outdated(home.tokens)


async def test_only_the_death_that_was_recorded_is_explained() -> None:
    home = SharedLogin()
    claim = OpenRefreshClaim(RefreshClaim("ab" * 16), home.clock)
    async with home.store.locked() as held:
        await claim.add_detail(held, RefreshDeadReason.ACCOUNT_CHANGED, "somebody else signed in")
        assert home.store.claims == {}
        await claim.record(held)
        await claim.add_detail(held, RefreshDeadReason.EXHAUSTED, "it is not dead yet")
        await claim.refuse(held, RefreshDeadReason.EXHAUSTED, "")
        await claim.add_detail(held, RefreshDeadReason.REVOKED, "another reason")
        assert home.store.claims["ab" * 16].detail == ""
        await claim.add_detail(held, RefreshDeadReason.EXHAUSTED, "another machine has a copy")
    recorded = home.store.claims["ab" * 16]
    assert (recorded.state, recorded.detail) == (RefreshClaimState.DEAD, "another machine has a copy")


async def test_a_claim_that_cannot_be_recorded_when_it_ends_costs_only_what_others_know() -> None:
    home = SharedLogin()
    claim = OpenRefreshClaim(RefreshClaim("ab" * 16), home.clock)

    async def full(claim: RefreshClaim) -> None:
        raise StoreUnavailable("the disk is full")

    async with home.store.locked() as held:
        await claim.record(held)
        held.record = full
        await claim.refuse(held, RefreshDeadReason.EXHAUSTED, "")
        await claim.add_detail(held, RefreshDeadReason.EXHAUSTED, "another machine has a copy")
    assert home.store.claims["ab" * 16].is_in_doubt, "true enough: it was sent"


async def test_a_claim_that_brought_no_other_token_is_withdrawn() -> None:
    home = SharedLogin()
    claim = OpenRefreshClaim(RefreshClaim("ab" * 16), home.clock)
    async with home.store.locked() as held:
        await claim.record(held)
        await claim.settle(held)
    assert home.store.claims == {}


# The engine


async def test_a_refusal_that_comes_during_a_look_at_the_doubt_counts() -> None:
    """The refresh began while the access token was still usable."""
    home = SharedLogin(expires_in=3600.0)
    await lose(home)
    async with home.engine() as engine:
        task = engine._flows.scheduler.start_or_join()
        task.add_done_callback(lambda _: engine._flows.scheduler.note_refused(home.tokens.access_token))
        await engine.refresh()
        assert engine.session.credentials is home.store.credentials is not home.tokens
    assert len(home.authority.sent) == 3


async def test_tokens_that_come_while_somebody_waits_for_a_refresh_are_better_news_than_its_error() -> None:
    home = SharedLogin(expires_in=3600.0)
    newer = make_tokens(now=home.clock.now())
    await lose(home)
    async with home.engine() as engine:
        task = engine._flows.scheduler.start_or_join()
        arrived = RefreshResult(newer, was_adopted=True)
        task.add_done_callback(lambda _: engine._flows.scheduler._adopt(home.tokens, arrived))
        assert (await engine.refresh()).credentials is newer
        assert isinstance(task.result(), RefreshInDoubt)


async def test_the_engine_goes_on_with_its_access_token_in_doubt_until_it_expires() -> None:
    home = SharedLogin(expires_in=100.0)
    home.authority.fail_next(LOST, 2)
    async with home.engine() as engine:
        assert (await engine.authorization()).token == home.tokens.access_token
        await home.clock.settle()
        for _ in range(3):
            home.clock.advance(31)
            assert (await engine.authorization()).token == home.tokens.access_token
            await home.clock.settle()
        assert len(home.authority.sent) == 2
        home.clock.advance(31)
        assert (await engine.authorization()).token != home.tokens.access_token
    assert len(home.authority.sent) == 3


async def test_a_refused_access_token_does_not_serve_any_more() -> None:
    home = SharedLogin(expires_in=3600.0)
    await lose(home)
    async with home.engine() as engine:
        refused = await engine.authorization()
        with pytest.raises(RefreshInDoubt):
            await engine.refresh()
        assert (await engine.recover(refused)).token != refused.token
    assert len(home.authority.sent) == 3


async def test_a_new_process_finds_a_dead_token_without_asking() -> None:
    home = SharedLogin()
    home.authority.kill()
    for _ in range(3):
        async with home.engine() as engine:
            await engine.check()
            assert engine.session.state is AuthState.REFRESH_DEAD
    assert len(home.authority.sent) == 1


async def test_nobody_waits_for_an_issuer_while_the_token_is_still_usable() -> None:
    home = SharedLogin(expires_in=20.0)
    home.authority.hold()
    async with home.engine() as engine:
        asking = asyncio.create_task(engine.authorization())
        await home.authority.asked()
        await home.clock.elapse(2)
        assert (await asking).token == home.tokens.access_token
        home.authority.release()


# The file


async def test_the_claims_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    store = AuthJsonStore(tmp_path)
    async with store.locked() as held:
        await held.save(make_tokens())
        for number in range(MAX_CLAIMS + 3):
            await held.record(RefreshClaim(f"{number:032x}", RefreshClaimState.SPENT, 1.0, sends=1))
    file = tmp_path / "auth.json.authstate.claims"
    assert file.stat().st_mode & 0o777 == 0o600
    other = AuthJsonStore(tmp_path)
    assert await other.claim_on(f"{2:032x}") is None
    found = await other.claim_on(f"{3:032x}")
    assert found is not None and found.holder.startswith("process ")
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("content", [b"", b"[", b"\xff", b'[{"fingerprint": 7}]', b"{}", b"[" * 5000])
async def test_a_file_that_cannot_be_understood_counts_as_empty(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "auth.json.authstate.claims").write_bytes(content)
    store = AuthJsonStore(tmp_path)
    assert await store.claim_on("ab" * 16) is None
    assert await store.claim_on("ab" * 16) is None
    assert len([record for record in caplog.records if record.name.startswith("authstate")]) == 1
    async with store.locked() as held:
        await held.record(RefreshClaim("ab" * 16, RefreshClaimState.DEAD, 1.0, reason=RefreshDeadReason.REVOKED))
    found = await AuthJsonStore(tmp_path).claim_on("ab" * 16)
    assert found is not None and found.reason is RefreshDeadReason.REVOKED


async def test_a_claim_says_whose_token_it_was() -> None:
    home = SharedLogin()
    await home.run(home.process())
    assert home.claim is not None
    assert home.claim.account == home.tokens.account.digest
    assert home.claim.account != make_tokens(account_id="org-2").account.digest
