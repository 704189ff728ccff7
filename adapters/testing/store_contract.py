"""The contract of a `CredentialStore`, as tests that pytest collects from a subclass.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def authstate_open_store(self, tmp_path):
            return lambda lock_timeout=30.0: MyStore(tmp_path, lock_timeout=lock_timeout)

Needs only pytest: each test runs its own event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.tokens import make_external_tokens, make_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import MAX_CLAIMS, RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken
from authstate.engine.model.errors import RefreshDeadReason, StoreBusy
from authstate.engine.model.secret import Secret
from authstate.engine.model.states import AuthState
from authstate.engine.ports import CredentialStore

_KEY = ApiKey.parse("sk-contract-0123456789")
_TEST_TIMEOUT = 60.0  # seconds for one test, so that a test that hangs fails


class StoreContract:
    """What every `CredentialStore` must do. A subclass defines the fixture `authstate_open_store`, or `open_store`."""

    @pytest.fixture
    def authstate_open_store(self) -> Callable[..., CredentialStore]:
        """Return what opens a store on this test's own place: a function with the argument and the result of
        `open_store`. A fixture of this name in a subclass takes its place.
        """
        return self.open_store

    @pytest.fixture(autouse=True)
    def _authstate_opened_by_fixture(self, authstate_open_store: Callable[..., CredentialStore]) -> None:
        self.open_store = authstate_open_store  # type: ignore[method-assign] # pyright: ignore

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        """Return a store on this test's own place, which is empty when the test begins.

        Each call stands for another process: return a new object on the same place, if the place outlives the object.

        Args:
            lock_timeout: seconds to wait for the lock before `StoreBusy`.
        """
        raise NotImplementedError

    async def close_stores(self) -> None:
        """Close what the stores of a test keep open: connections, for example. Called in its event loop, at its end."""

    def _run(self, steps: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await asyncio.wait_for(steps, _TEST_TIMEOUT)
            finally:
                await self.close_stores()

        asyncio.run(run())

    def test_nothing_is_stored_at_first(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            assert await store.load() is None
            async with store.locked() as held:
                assert await held.load() is None

        self._run(steps())

    def test_what_was_saved_is_loaded_here_and_elsewhere(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            for credentials in _samples():
                async with store.locked() as held:
                    await held.save(credentials)
                    assert await held.load() == credentials
                assert await store.load() == credentials
                assert await self.open_store().load() == credentials

        self._run(steps())

    def test_two_saves_in_one_hold_keep_the_second(self) -> None:
        async def steps() -> None:
            store, second = self.open_store(), make_tokens(now=1_800_000_000.5)
            async with store.locked() as held:
                await held.prepare()
                await held.save(_KEY)
                await held.prepare()
                await held.save(second)
            assert await store.load() == second

        self._run(steps())

    def test_a_delete_leaves_nothing_and_may_be_repeated(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            await _save(store, make_tokens())
            async with store.locked() as held:
                await held.delete()
                assert await held.load() is None
                await held.delete()
            assert await self.open_store().load() is None

        self._run(steps())

    def test_a_preparation_that_is_not_used_changes_nothing(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            await _save(store, _KEY)
            async with store.locked() as held:
                await held.prepare()
                await held.prepare()
            assert await store.load() == _KEY

        self._run(steps())

    def test_external_tokens_are_refused(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            await _save(store, _KEY)
            with pytest.raises(TypeError):
                await _save(store, make_external_tokens())
            assert await store.load() == _KEY

        self._run(steps())

    def test_there_is_one_holder_at_a_time(self) -> None:
        async def steps() -> None:
            stores = [self.open_store() for _ in range(5)]
            inside: list[int] = []
            most: list[int] = []

            async def hold(number: int) -> None:
                async with stores[number % 5].locked():
                    inside.append(number)
                    most.append(len(inside))
                    await asyncio.sleep(0)
                    inside.remove(number)

            await asyncio.gather(*(hold(number) for number in range(10)))
            assert most == [1] * 10

        self._run(steps())

    def test_a_waiter_times_out_and_can_still_read(self) -> None:
        async def steps() -> None:
            holder = self.open_store()
            await _save(holder, _KEY)
            async with holder.locked():
                waiter = self.open_store(lock_timeout=0.05)
                with pytest.raises(StoreBusy):
                    await waiter.locked().__aenter__()
                assert await waiter.load() == _KEY
            await _save(self.open_store(), make_tokens())

        self._run(steps())

    def test_a_waiter_that_is_cancelled_leaves_no_lock(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            async with store.locked():
                waiter = asyncio.ensure_future(self.open_store().locked().__aenter__())
                await asyncio.sleep(0.05)
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiter
            await _save(self.open_store(), _KEY)
            assert await store.load() == _KEY

        self._run(steps())

    def test_an_error_of_the_holder_frees_the_lock(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            with pytest.raises(ZeroDivisionError):
                async with store.locked() as held:
                    await held.prepare()
                    raise ZeroDivisionError
            await _save(self.open_store(), _KEY)
            assert await store.load() == _KEY

        self._run(steps())

    def test_a_save_that_is_cancelled_is_whole_or_not_at_all(self) -> None:
        async def steps() -> None:
            old, new = make_tokens(now=1_800_000_000.0), make_tokens(now=1_800_000_001.0)
            for turns in range(12):
                store = self.open_store()
                await _save(store, old)
                saving = asyncio.ensure_future(_save(store, new))
                for _ in range(turns):
                    await asyncio.sleep(0)
                saving.cancel()
                await asyncio.wait((saving,))
                assert await store.load() in (old, new)
                await _save(self.open_store(), new)

        self._run(steps())

    def test_a_reader_sees_the_old_or_the_new(self) -> None:
        async def steps() -> None:
            store, reader = self.open_store(), self.open_store()
            known = [make_tokens(now=1_800_000_000.0 + number) for number in range(8)]
            await _save(store, known[0])

            async def write() -> None:
                for tokens in known[1:]:
                    await _save(store, tokens)

            writing = asyncio.ensure_future(write())
            seen: list[Credentials | None] = []
            while not writing.done():
                seen.append(await reader.load())
                await asyncio.sleep(0)
            await writing
            assert [found for found in seen if found not in known] == []
            assert await reader.load() == known[-1]

        self._run(steps())

    def test_engines_that_share_it_spend_a_refresh_token_once(self) -> None:
        async def steps() -> None:
            tokens = make_tokens(expires_in=-60.0)
            authority = FakeAuthority(tokens)
            await _save(self.open_store(), tokens)
            engines = [AuthEngine(self.open_store(), authority) for _ in range(3)]
            for engine in engines:
                await engine.start()
            await asyncio.gather(*(engine.authorization() for engine in engines))
            assert [engine.session.state for engine in engines] == [AuthState.CHATGPT] * 3
            for engine in engines:
                await engine.close()
            stored = await self.open_store().load()
            assert isinstance(stored, ChatgptTokens)
            assert authority.sent == [tokens.refresh_token.reveal()]
            assert authority.live == {stored.refresh_token.reveal()}

        self._run(steps())

    def test_a_claim_is_found_here_and_elsewhere_until_it_is_free(self) -> None:
        async def steps() -> None:
            store, claim = self.open_store(), _claim(1)
            assert await store.claim_on(claim.fingerprint) is None
            await _record(store, claim)
            for other in (store, self.open_store()):
                found = await other.claim_on(claim.fingerprint)
                assert found is not None
                assert (found.state, found.sends, found.reason) == (claim.state, claim.sends, claim.reason)
                assert abs(found.at - claim.at) < 1e-3
            await _record(store, RefreshClaim(claim.fingerprint))
            assert await self.open_store().claim_on(claim.fingerprint) is None

        self._run(steps())

    def test_the_last_64_claims_are_kept_beside_the_login(self) -> None:
        async def steps() -> None:
            store, claims = self.open_store(), [_claim(number) for number in range(MAX_CLAIMS)]
            await _save(store, _KEY)
            await _record(store, *claims)
            found = [await self.open_store().claim_on(claim.fingerprint) for claim in claims]
            assert [claim for claim in found if claim is None] == []
            assert await store.load() == _KEY

        self._run(steps())

    def test_the_place_has_a_name_that_holds_no_secret(self) -> None:
        async def steps() -> None:
            store = self.open_store()
            await _save(store, _KEY)
            assert store.describe().strip()
            for shown in (store.describe(), repr(store), str(store)):
                assert _KEY.key.reveal() not in shown

        self._run(steps())


def _samples() -> list[Credentials]:
    """Return what is static, and tokens of every shape: with all members, with few, and large."""
    return [
        _KEY,
        PersonalAccessToken.read("at-contract-0123456789"),
        make_tokens(now=1_800_000_000.123456),
        make_tokens(email=None, account_id=None, user_id=None, plan=None, expires_in=None, now=1_800_000_000.0),
        make_tokens(refresh_token="rt-contract-" + "x" * 6000, now=1_800_000_000.0),
        _KEY,
    ]


async def _save(store: CredentialStore, credentials: Credentials) -> None:
    async with store.locked() as held:
        await held.save(credentials)


def _claim(number: int) -> RefreshClaim:
    """Return the claim on an invented refresh token that the issuer refused."""
    fingerprint = fingerprint_of(Secret(f"rt-contract-{number}"))
    at = 1_800_000_000.0 + number
    return RefreshClaim(fingerprint, RefreshClaimState.DEAD, at=at, sends=1, reason=RefreshDeadReason.REVOKED)


async def _record(store: CredentialStore, *claims: RefreshClaim) -> None:
    async with store.locked() as held:
        for claim in claims:
            await held.record(claim)
