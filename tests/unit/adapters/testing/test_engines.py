"""Engines in each state, transcripts, and what the backend in memory accepts."""

import httpx
import pytest
from support.leaks import CANARY, assert_hidden

from authstate import AuthJsonStore, AuthState, EngineAuth, Policy, RecoveryExhausted, RefreshDeadReason
from authstate.adapters.stores.memory import MemoryStore
from authstate.testing import Engines, FakeBackend, Transcript, make_external_tokens


async def status(engines: Engines, auth: httpx.Auth) -> int:
    async with httpx.AsyncClient(auth=auth, transport=engines.backend.transport) as client:
        return (await client.get("https://backend.example/thing")).status_code


@pytest.mark.parametrize("state", AuthState)
async def test_an_engine_starts_in_its_state_and_asks_nobody(state: AuthState) -> None:
    engines = Engines()
    async with engines.in_state(state) as engine:
        assert engine.session.state is state
        assert engines.transcript == []
        if state is not AuthState.LOGGED_OUT:
            assert await status(engines, EngineAuth(engine)) == 200


async def test_a_personal_access_token_has_an_owner() -> None:
    engines = Engines()
    async with engines.api_key("at-0123456789") as engine:
        assert await status(engines, EngineAuth(engine)) == 200
    assert engines.transcript == ["identify key-1 -> an account", "GET /thing key-1 -> 200"]


async def test_a_parent_is_asked_for_other_tokens() -> None:
    engines = Engines()
    async with engines.external_tokens() as engine:
        engines.faults.expire()
        tokens = make_external_tokens(now=engines.clock.now())
        engines.backend.accept(tokens.access_token.reveal())
        engines.parent.will_answer(tokens)
        assert await status(engines, EngineAuth(engine)) == 200
    assert engines.parent.count == 1


async def test_a_key_that_is_refused_has_no_successor() -> None:
    engines = Engines()
    async with engines.api_key() as engine:
        engines.faults.expire()
        with pytest.raises(RecoveryExhausted):
            await engine.recover(await engine.authorization())


async def test_a_login_may_be_dead_for_any_reason_in_any_store(tmp_path: object) -> None:
    store = AuthJsonStore(str(tmp_path))
    async with Engines().refresh_dead(RefreshDeadReason.EXPIRED, store=store) as engine:
        assert engine.session.failure is not None
        assert engine.session.failure.reason is RefreshDeadReason.EXPIRED


async def test_engines_share_a_store_or_have_their_own() -> None:
    engines, store = Engines(), MemoryStore()
    async with engines.chatgpt(store=store) as first, engines.on(store) as second:
        await first.refresh()
        assert await second.reload()
        assert second.session.credentials == first.session.credentials
        async with engines.logged_out() as third:
            assert third.session.account is None


async def test_an_engine_that_gets_into_another_state_says_why() -> None:
    policy = Policy(forced_workspaces=("org-other",))
    with pytest.raises(AssertionError, match="in the state logged_out, not chatgpt"):
        await Engines().chatgpt(policy=policy).__aenter__()


async def test_an_engine_is_entered_once() -> None:
    process = Engines().chatgpt()
    async with process:
        pass
    with pytest.raises(RuntimeError, match="entered before"):
        await process.__aenter__()
    with pytest.raises(RuntimeError, match="entered before"):
        process.__enter__()


def test_there_is_no_sixth_state() -> None:
    with pytest.raises(ValueError):
        Engines().in_state("signed_in")


def test_the_backend_knows_whom_it_accepts() -> None:
    engines = Engines()
    tokens = engines.authority.issue()
    backend: FakeBackend = engines.backend
    assert backend.accepts(tokens.access_token.reveal())
    assert not backend.accepts("a-stranger")
    engines.clock.advance(3601)
    assert not backend.accepts(tokens.access_token.reveal())


def test_a_transcript_is_compared_and_shown_like_a_list() -> None:
    transcript = Transcript()
    transcript.add(f"refresh {transcript.name('refresh', CANARY)}", "unavailable")
    transcript.add(f"refresh {transcript.name('refresh', CANARY)}", "unavailable")
    assert transcript == ["refresh refresh-1 -> unavailable"] * 2
    assert_hidden(transcript)
    assert transcript == Transcript(transcript) and transcript != "text"
    assert (len(transcript), transcript[0], transcript[1:]) == (2, transcript[-1], [transcript[1]])
    assert repr(transcript) == "[\n" + "    'refresh refresh-1 -> unavailable',\n" * 2 + "]"
    transcript.clear()
    assert repr(transcript) == "[]" and transcript.name("access", CANARY) == "refresh-1"
    assert transcript.name("access", "") == "none"
