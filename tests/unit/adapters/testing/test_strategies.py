"""The hypothesis strategies: what they make is what authstate reads, and every history keeps its promises."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authstate import (
    AuthJsonStore,
    Authorization,
    AuthState,
    Credentials,
    ExternalTokens,
    Session,
    StateChanged,
    TransientAuthError,
)
from authstate.adapters.stores.auth_json_format import decode, encode
from authstate.adapters.testing.engines import EngineInState
from authstate.engine.model.account import account_of
from authstate.engine.model.jwt_claims import read_jwt_claims
from authstate.testing import Engines, HistoryAction, HistoryPlayer, make_jwt, strategies

SETTINGS = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(strategies.id_token_claims())
def test_claims_name_an_account_or_none(claims: dict[str, Any]) -> None:
    assert read_jwt_claims(make_jwt(**claims), "id token") == claims
    assert account_of(claims).email is None or account_of(claims).email == claims["email"]


@SETTINGS
@given(strategies.stored_credentials())
def test_what_can_be_stored_is_stored_without_loss(credentials: Credentials) -> None:
    assert decode(encode(credentials, None), "the test").credentials == credentials


@SETTINGS
@given(strategies.credentials())
def test_no_credentials_show_a_secret(credentials: Credentials) -> None:
    for name in credentials.__struct_fields__:
        value = getattr(credentials, name)
        if hasattr(value, "reveal") and value:
            assert value.reveal() not in repr(credentials)


@SETTINGS
@given(strategies.sessions())
def test_a_session_is_one_that_an_engine_could_have(session: Session) -> None:
    assert (session.credentials is None) == (session.state is AuthState.LOGGED_OUT)
    assert (session.failure is not None) == (session.state is AuthState.REFRESH_DEAD)
    assert isinstance(session.credentials, ExternalTokens) == (session.state is AuthState.EXTERNAL_TOKENS)
    if session.account is not None:
        assert Authorization.of(session).headers()["Authorization"].startswith("Bearer ")


@settings(SETTINGS, max_examples=10)
@pytest.mark.parametrize("state", AuthState)
@given(data=st.data())
def test_every_state_has_sessions(state: AuthState, data: st.DataObject) -> None:
    assert data.draw(strategies.sessions(state)).state is state


@SETTINGS
@given(strategies.chatgpt_tokens(now=5000.0, can_refresh=True))
def test_tokens_are_of_the_time_that_is_given(tokens: Any) -> None:
    assert tokens.can_refresh
    assert tokens.last_refresh is None or tokens.last_refresh <= 5000.0


async def keep_promises(history: list[HistoryAction], state: AuthState) -> None:
    engines = Engines()
    process: EngineInState = engines.in_state(state)
    async with process as engine:
        player, replayed = HistoryPlayer(engines, process), [engine.session]
        engine.subscribe(lambda event: replayed.append(event.current) if isinstance(event, StateChanged) else None)
        for action in history:
            await player.play(action)
        assert replayed[-1] == engine.session
    served = [line.split(" -> ")[0] for line in engines.transcript if re.search("^refresh .* -> access", line)]
    assert [line for line, times in Counter(served).items() if times > 1] == [], engines.transcript


@settings(SETTINGS, max_examples=150, derandomize=True)
@given(strategies.histories(max_size=20), st.sampled_from(AuthState))
def test_every_history_spends_a_refresh_token_once(history: list[HistoryAction], state: AuthState) -> None:
    asyncio.run(asyncio.wait_for(keep_promises(history, state), 60))


@pytest.mark.parametrize("action", HistoryAction)
async def test_an_action_can_be_played_in_every_state(action: HistoryAction) -> None:
    for state in AuthState:
        await keep_promises([action, HistoryAction.PROGRAM_FOLLOWS, action], state)


async def test_an_action_returns_the_error_of_the_program() -> None:
    engines = Engines()
    process = engines.chatgpt()
    async with process:
        player = HistoryPlayer(engines, process)
        assert await player.play(HistoryAction.ISSUER_GOES_DOWN) is None
        assert isinstance(await player.play(HistoryAction.PROGRAM_REFRESHES), TransientAuthError)
        assert await player.play(HistoryAction.ISSUER_COMES_BACK) is None
        assert await player.play(HistoryAction.PROGRAM_SENDS_REQUEST) is None


async def test_a_history_needs_a_store_in_memory(tmp_path: Path) -> None:
    engines = Engines()
    process = engines.on(AuthJsonStore(tmp_path))
    with pytest.raises(TypeError, match="needs an engine with a MemoryStore, not AuthJsonStore"):
        HistoryPlayer(engines, process)
