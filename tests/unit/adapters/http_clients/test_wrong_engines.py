"""What authorizes requests is given an engine of the wrong kind, or none: a TypeError that says what to give."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest

from authstate import (
    AuthEngine,
    EngineAuth,
    MemoryStore,
    SyncAuthEngine,
    SyncEngineAuth,
    VaultStore,
    log_events,
    open_engine,
    sync_token_provider,
    token_provider,
)
from authstate.testing import FakeAuthority

CANARY = "canary-7d20"
ENGINE: Any = AuthEngine(MemoryStore(), FakeAuthority())
SYNC_ENGINE: Any = SyncAuthEngine(AuthEngine(MemoryStore(), FakeAuthority()))
TAKERS: dict[Callable[[Any], object], str] = {
    EngineAuth: r"give EngineAuth an AuthEngine, such as open_engine\(\)",
    SyncEngineAuth: r"give SyncEngineAuth a SyncAuthEngine, such as SyncAuthEngine\(open_engine\(\)\)",
    token_provider: "give token_provider an AuthEngine",
    sync_token_provider: "give sync_token_provider a SyncAuthEngine",
    SyncAuthEngine: "give an AuthEngine that was not started",
    log_events: "give an AuthEngine",
    VaultStore: "give a Vault",
}
WRONG: tuple[Any, ...] = (3, None, CANARY, {CANARY: CANARY}, MemoryStore(), AuthEngine, SyncAuthEngine, open_engine)


@pytest.mark.parametrize("take", TAKERS)
def test_what_is_no_engine_is_refused(take: Callable[[Any], object]) -> None:
    for given in WRONG:
        with pytest.raises(TypeError, match=rf"^(engine|vault) is .*: {TAKERS[take]}") as raised:
            take(given)
        assert CANARY not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("take", "given", "said"),
    [
        (EngineAuth, SYNC_ENGINE, "give this engine to SyncEngineAuth"),
        (SyncEngineAuth, ENGINE, "give an AuthEngine to EngineAuth"),
        (token_provider, SYNC_ENGINE, "give this engine to sync_token_provider"),
        (sync_token_provider, ENGINE, "give an AuthEngine to token_provider"),
        (SyncAuthEngine, SYNC_ENGINE, "engine is of the type SyncAuthEngine"),
        (EngineAuth, AuthEngine, "engine is the class AuthEngine"),
        (SyncEngineAuth, SyncAuthEngine, "engine is the class SyncAuthEngine"),
    ],
)
def test_an_engine_of_the_other_kind_is_refused(take: Callable[[Any], object], given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        take(given)


@pytest.mark.parametrize(
    ("take", "kind"),
    [
        (EngineAuth, AuthEngine),
        (token_provider, AuthEngine),
        (SyncEngineAuth, SyncAuthEngine),
        (sync_token_provider, SyncAuthEngine),
    ],
)
def test_a_mock_of_an_engine_of_the_right_kind_is_taken(take: Callable[[Any], object], kind: type) -> None:
    for mock in (Mock(spec=kind), create_autospec(kind, instance=True)):
        take(mock)


@pytest.mark.parametrize(("take", "engine"), [(EngineAuth, ENGINE), (SyncEngineAuth, SYNC_ENGINE)])
def test_one_origin_is_a_list_of_one(take: Any, engine: Any) -> None:
    """The letters of the text would be its origins."""
    with pytest.raises(TypeError, match=r"several URLs: write \[url\] for one"):
        take(engine, "https://backend.example")


@pytest.mark.parametrize("given", [3, f"sk-{CANARY}", FakeAuthority()])
def test_a_store_in_memory_takes_credentials(given: Any) -> None:
    with pytest.raises(TypeError, match=r"credentials is of the type .*: give ApiKey\.parse\(text\)") as raised:
        MemoryStore(given)
    assert CANARY not in str(raised.value)
