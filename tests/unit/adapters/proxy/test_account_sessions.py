"""What the account API of the newest releases has besides: the list of accounts, and the reason of an update."""

from typing import Any

import msgspec
import pytest

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.wire import (
    ACCOUNT_UPDATED,
    ROUTING_READY,
    AccountUpdatedForReason,
    AccountUpdatedParams,
)
from authstate.adapters.child.token_dialects import FIRST_WITH_REASON, release_of
from authstate.adapters.jsonrpc.peer import Peer
from authstate.adapters.proxy.account_sessions import sessions_of
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState
from authstate.testing import make_external_tokens, make_tokens


def listed(credentials: Credentials | None, state: AuthState) -> Any:
    return msgspec.to_builtins(sessions_of(Session(state, credentials), 1_800_000_000.9))


def test_a_login_is_one_session_that_is_in_use() -> None:
    tokens = make_tokens(email="person@example.com", account_id="org-1", user_id="user-1")
    assert listed(tokens, AuthState.CHATGPT) == {
        "activeSessionId": "user-1",
        "sessions": [
            {
                "sessionId": "user-1",
                "email": "person@example.com",
                "userId": "user-1",
                "displayName": None,
                "imageUrl": None,
                "lastUsedAt": 1_800_000_000,
                "isActive": True,
                "selectedWorkspaceAccountId": "org-1",
                "workspaces": [{"accountId": "org-1", "name": None, "imageUrl": None, "kind": None}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"account_id": "org-1", "user_id": None}, "org-1"),
        ({"account_id": None, "user_id": None, "email": "a@example.com"}, "a@example.com"),
        ({"account_id": None, "user_id": None, "email": None}, "default"),
    ],
)
def test_a_login_without_some_of_its_claims_has_a_name_all_the_same(claims: dict[str, Any], name: str) -> None:
    found = listed(make_tokens(**claims), AuthState.CHATGPT)
    assert found["activeSessionId"] == found["sessions"][0]["sessionId"] == name
    assert len(found["sessions"][0]["workspaces"]) == (claims["account_id"] is not None)


@pytest.mark.parametrize(
    ("credentials", "state"),
    [
        (None, AuthState.LOGGED_OUT),
        (ApiKey.parse("sk-1"), AuthState.API_KEY),
        (make_external_tokens(), AuthState.EXTERNAL_TOKENS),
        (make_tokens(), AuthState.REFRESH_DEAD),
    ],
)
def test_nothing_else_is_a_session(credentials: Credentials | None, state: AuthState) -> None:
    assert listed(credentials, state) == {"activeSessionId": None, "sessions": []}


class Wire:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def write(self, data: bytes) -> None:
        self.told.append(msgspec.json.decode(data)["params"])


@pytest.mark.parametrize(("knows", "members"), [(False, set()), (True, {"reason"})])
async def test_a_release_is_told_of_a_reason_if_it_knows_such(knows: bool, members: set[str]) -> None:
    client, wire = ConnectedClient(Peer(lambda method, params: None)), Wire()
    client.peer.connect(wire)
    client.is_initialized = True
    client.knows_reasons = knows
    client.notify(ACCOUNT_UPDATED, AccountUpdatedParams("chatgpt", "plus"))
    assert set(wire.told[0]) == {"authMode", "planType"} | members
    assert wire.told[0].get("reason") is None
    if knows:
        client.notify(ACCOUNT_UPDATED, AccountUpdatedForReason("chatgpt", "plus", ROUTING_READY))
        assert wire.told[1]["reason"] == "workspaceRoutingReady"


@pytest.mark.parametrize(
    ("agent", "knows"),
    [("x/0.171.0 (Linux)", True), ("x/1.0.0", True), ("x/0.170.9", False), ("x", False), ("x/0.171.0-alpha.1", True)],
)
def test_which_releases_know_it(agent: str, knows: bool) -> None:
    release = release_of(msgspec.json.encode({"userAgent": agent}))
    assert (release is not None and release >= FIRST_WITH_REASON) is knows
