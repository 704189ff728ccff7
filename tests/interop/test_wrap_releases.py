"""`authstate wrap` with releases between the two that every test takes, and with the newest one: whole turns."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interop.test_wrap import Agent, message_of
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.wrapped import WRAP

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]


@pytest.fixture(params=["0.120.0", "0.150.0", "newest"])
def agent(
    request: pytest.FixtureRequest, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> Iterator[Agent]:
    """A wrapped codex of this release, signed in."""
    codex = real_parts.codex(request.param)
    home = make_home(email="person@example.com", plan="promax", config=model_config(issuer))
    with Agent([*WRAP, str(codex)], home, issuer) as running:
        yield running


def test_tokens_are_refreshed_during_a_turn_and_a_revoked_login_is_marked(agent: Agent, issuer: LoopbackIssuer) -> None:
    assert agent.turn("use a tool, then expire")["status"] == "completed"
    assert issuer.stats()["refreshes_accepted"] == 1
    account = agent.result("account/read")["account"]
    assert (account["email"], account["planType"]) == ("person@example.com", "promax")
    issuer.expire_access()
    issuer.revoke()
    turn = agent.turn("hello")
    assert "authstate login" in message_of(turn)
    assert turn["error"]["codexErrorInfo"] == "unauthorized"
    assert agent.result("account/read")["account"] is None
    assert agent.result("getAuthStatus", {"includeToken": True})["authToken"] is None
