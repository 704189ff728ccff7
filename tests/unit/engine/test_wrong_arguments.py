"""An argument of another type is refused where it is given. The error names its type, and never its value."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from authstate import (
    AuthEngine,
    AuthJsonStore,
    EnginePool,
    LoginFlow,
    NotSignedIn,
    SyncAuthEngine,
    TransitionRefused,
)
from authstate.engine.model.credentials import ApiKey
from authstate.testing import FakeAuthority, MemoryStore

CANARY = "sk-canary-of-wrong-arguments"
KEY: Any = CANARY  # text, where an object belongs


class HalfStore:
    """What somebody has written so far of a store."""

    async def load(self) -> None:
        """Nothing is stored."""


CONSTRUCTED: dict[str, tuple[Callable[[], object], str]] = {
    "a folder as store": (lambda: AuthEngine(KEY, FakeAuthority()), "store is of the type str.*AuthJsonStore"),
    "a store that is not complete": (
        lambda: AuthEngine(HalfStore(), FakeAuthority()),  # type: ignore[arg-type] # pyright: ignore
        "store is of the type HalfStore, which has no method claim_on: give a CredentialStore",
    ),
    "a class as store": (
        lambda: AuthEngine(MemoryStore, FakeAuthority()),  # type: ignore[arg-type] # pyright: ignore
        "store is the class MemoryStore",
    ),
    "store and authority exchanged": (
        lambda: AuthEngine(FakeAuthority(), MemoryStore()),  # type: ignore[arg-type] # pyright: ignore
        "store is of the type FakeAuthority",
    ),
    "an address as authority": (lambda: AuthEngine(MemoryStore(), KEY), "authority is of the type str.*HttpToken"),
    "text as policy": (lambda: made(policy=KEY), "policy is of the type str: give a Policy"),
    "text as settings": (lambda: made(settings=KEY), "settings is of the type str: give a RefreshSettings"),
    "text as key": (lambda: made(api_key=KEY), r"api_key is of the type str: give ApiKey\.parse"),
    "text as recovery": (lambda: made(recovery=KEY), "recovery is of the type str: give a RecoveryPlan"),
    "no engine": (lambda: SyncAuthEngine(KEY), r"engine is of the type str.*open_engine\(\)"),
    "an engine in place of a function": (lambda: EnginePool(made()), "open_engine is of the type AuthEngine"),  # type: ignore[arg-type] # pyright: ignore
    "a listener that is none": (lambda: made().subscribe(KEY), "listener is of the type str: give a function"),
    "a policy that is none": (lambda: made().set_policy(KEY), "policy is of the type str: give a Policy"),
}


def made(**options: Any) -> AuthEngine:
    return AuthEngine(MemoryStore(), FakeAuthority(), **options)


@pytest.mark.parametrize("mistake", CONSTRUCTED)
def test_parts_of_another_type(mistake: str) -> None:
    make, says = CONSTRUCTED[mistake]
    with pytest.raises(TypeError, match=says) as refused:
        make()
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_calls_with_an_argument_of_another_type_change_nothing(is_signed_in: bool) -> None:
    authority = FakeAuthority()
    store = MemoryStore(authority.issue() if is_signed_in else None)
    async with AuthEngine(store, authority) as engine:
        before = engine.session
        session: Any = engine.session
        for call, says in (
            (engine.recover(KEY), "refused is of the type str: give the Authorization"),
            (engine.recover(session), "refused is of the type Session"),
            (engine.complete_chatgpt_login(KEY), "tokens is of the type str: give ChatgptTokens"),
            (engine.complete_chatgpt_login(ApiKey.parse(CANARY)), "tokens is of the type ApiKey"),  # type: ignore[arg-type] # pyright: ignore
            (engine.use_external_tokens(KEY), "tokens is of the type str: give ExternalTokens"),
        ):
            with pytest.raises(TypeError, match=says) as refused:
                await call
            assert CANARY not in str(refused.value)
        with pytest.raises(TypeError, match="policy is of the type str"):
            engine.set_policy(KEY)
        assert engine.session is before
        assert store.saves == 0


async def test_tokens_of_another_type_fail_their_login_attempt() -> None:
    async with made() as engine:
        attempt = await engine.begin_login("1", LoginFlow.DEVICE_CODE)
        attempt.authorized()
        with pytest.raises(TypeError, match="tokens is of the type str"):
            await engine.complete_login(attempt, KEY)
        assert not attempt.is_open
        await engine.use_api_key(CANARY)


async def test_a_second_start_says_that_it_is_one() -> None:
    async with made() as engine:
        with pytest.raises(TransitionRefused, match="was started before, and starts only once") as refused:
            await engine.start()
        assert (refused.value.trigger, refused.value.state) == ("start", "open")
        await engine.use_api_key(CANARY)


def test_the_error_before_the_start_fits_both_engines() -> None:
    for call in (SyncAuthEngine(made()).authorization, lambda: asyncio.run(made().authorization())):
        with pytest.raises(Exception, match=r"`async with` \(`with` for a SyncAuthEngine\), or call `start`"):
            call()


async def test_nobody_is_signed_in_says_where_a_login_would_be(tmp_path: Any) -> None:
    async with AuthEngine(AuthJsonStore(tmp_path), FakeAuthority()) as engine:
        with pytest.raises(NotSignedIn, match=r"there is no login in .*auth\.json: sign in first") as refused:
            await engine.authorization()
    assert str(tmp_path) in str(refused.value)


async def test_nobody_is_signed_in_says_why_if_the_store_cannot_be_read(tmp_path: Any) -> None:
    (tmp_path / "auth.json").write_text("{")
    async with AuthEngine(AuthJsonStore(tmp_path), FakeAuthority()) as engine:
        with pytest.raises(NotSignedIn, match=r"auth\.json cannot be read: it is not valid JSON"):
            await engine.authorization()
        await engine.use_api_key(CANARY)
        await engine.log_out()
        with pytest.raises(NotSignedIn, match="there is no login in"):
            await engine.authorization()
