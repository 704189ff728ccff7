"""An id token of fewer than three parts, or with an empty one, is refused wherever one comes in, as codex refuses it.

Measured with a stored file and codex 0.93.0 and 0.171.0: a signature that is empty or missing means no account. With
external tokens, 0.93.0 reads the id token so, and 0.120.0 to 0.171.0 the access token.
"""

import json
from typing import Any

import pytest
from support.account_client import ready

from authstate.adapters.oauth.code_exchange import exchange_code
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.issuer_http import IssuerHttp, IssuerResponse
from authstate.adapters.stores.auth_json_format import decode
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable, StoreUnreadable
from authstate.engine.model.events import Event, Warned
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens
from authstate.testing import FakeAuthority, MemoryStore, make_jwt, make_tokens

WHOLE = make_jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}}, jti="canary")
HEAD, CLAIMS, SIGNATURE = WHOLE.split(".")
UNSIGNED = [f"{HEAD}.{CLAIMS}.", f"{HEAD}.{CLAIMS}", f".{CLAIMS}.{SIGNATURE}", f"{HEAD}..{SIGNATURE}"]

every_form = pytest.mark.parametrize("token", UNSIGNED)


@every_form
def test_in_a_stored_file(token: str) -> None:
    tokens = {"id_token": token, "access_token": WHOLE, "refresh_token": "rt", "account_id": "org-1"}
    with pytest.raises(StoreUnreadable, match="in tokens, the id token is not a JWT"):
        decode(json.dumps({"tokens": tokens}).encode(), "auth.json")


@every_form
@pytest.mark.parametrize("dialect", ["id token", "access token"])
async def test_from_a_parent(token: str, dialect: str) -> None:
    client = await ready()
    wrong: dict[str, Any] = {"type": "chatgptAuthTokens", "accessToken": WHOLE, "idToken": token}
    if dialect == "access token":
        wrong = {"type": "chatgptAuthTokens", "accessToken": token, "chatgptAccountId": "org-1"}
    refusal = await client.refused("account/login/start", wrong)
    assert f"the {dialect} is not a JWT" in refusal and "canary" not in refusal
    assert (await client.result("account/read", {}))["account"] is None


@every_form
async def test_in_the_answer_to_a_code(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(*_: object, **__: object) -> IssuerResponse:
        members = {"id_token": token, "access_token": WHOLE, "refresh_token": "rt"}
        return IssuerResponse(status=200, headers={}, members=members)

    monkeypatch.setattr(IssuerHttp, "post", post)
    with pytest.raises(IssuerUnavailable, match="the id token is not a JWT"):
        await exchange_code(
            Issuer("https://issuer.example"), code=Secret("c"), redirect_uri="r", code_verifier=Secret("v")
        )


@every_form
async def test_in_the_answer_to_a_refresh(token: str) -> None:
    """The refresh token is spent by then: the rest is stored, with the old id token."""
    tokens = make_tokens(expires_in=-60)
    events: list[Event] = []

    class Issuing(FakeAuthority):
        async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
            return RefreshedTokens(Secret(WHOLE), Secret("rt-2"), Secret(token))

    async with AuthEngine(store := MemoryStore(tokens), Issuing()) as engine:
        engine.subscribe(events.append)
        session = await engine.refresh()
    assert session.credentials is store.credentials
    assert isinstance(session.credentials, ChatgptTokens)
    assert (session.credentials.id_token, session.credentials.refresh_token) == (tokens.id_token, Secret("rt-2"))
    assert [event.code for event in events if isinstance(event, Warned)] == ["id_token_unreadable"]
