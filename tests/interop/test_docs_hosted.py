"""The service in docs/hosted.md, exactly as it stands there, with the loopback issuer and backend."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.page_services import serving
from support.paths import REPO

from authstate import LoginCompleted
from authstate.testing import LoopbackIssuer

pytest.importorskip("fastapi", reason="FastAPI of the test extra runs this service")
PAGE = "hosted.md"
TEXT = (REPO / "docs" / PAGE).read_text(encoding="utf-8")
[PROGRAM] = [text for text in re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S) if "FastAPI" in text]

Serve = Callable[[], Any]


@pytest.fixture
def serve(
    issuer: LoopbackIssuer,
    make_home: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Serve:
    """Runs the service of the page on one home, with its lifespan; gives a client of it."""
    for name, value in {**issuer.environment, "CODEX_HOME": str(make_home())}.items():
        monkeypatch.setenv(name, value)

    return lambda: serving(PROGRAM, PAGE, caplog)


async def signed_in(client: Any, issuer: LoopbackIssuer, **login: Any) -> str:
    """Add a person and sign them in. Returns the path of the person."""
    path = f"/people/{(await client.post('/people')).json()['id']}"
    assert (await client.get(f"{path}/usage")).json()["error"] == "sign_in"
    opened = (await client.post(f"{path}/sign-in")).json()
    assert opened["open"].startswith("http") and "code" in opened["warning"]
    completed = asyncio.Event()
    client.app.state.people.pool.subscribe(
        lambda person, event: completed.set() if isinstance(event, LoginCompleted) and event.success else None
    )
    issuer.approve_device(opened["code"], **login)
    await completed.wait()
    assert (await client.get(path)).json()["state"] == "chatgpt"
    return path


async def test_people_come_and_go_and_have_logins_of_their_own(serve: Serve, issuer: LoopbackIssuer) -> None:
    async with serve() as client:
        ada = await signed_in(client, issuer, email="ada@example.com", account_id="org-a", user_id="user-a")
        bob = await signed_in(client, issuer, email="bob@example.com", account_id="org-b", user_id="user-b")
        issuer.expire_access()
        answers = await asyncio.gather(*(client.get(f"{path}/usage") for path in [ada, bob] * 5))
        assert [answer.json() for answer in answers] == [{"status": 200}] * 10
        assert issuer.stats()["refreshes_accepted"] == 2
        metrics = (await client.get("/metrics")).json()
        assert (metrics["open"], metrics["in_use"], metrics["refresh_failures"]) == (2, 0, 0)
        assert (await client.delete(ada)).status_code == 200
        gone = await client.get(f"{ada}/usage")
        assert (gone.status_code, gone.json()["error"]) == (404, "not_found")
        assert (await client.post(f"{ada}/sign-in")).status_code == 404
        assert issuer.stats()["revocations"] == 1
    async with serve() as client:  # a restart finds the people that are left
        assert (await client.get(f"{bob}/usage")).json() == {"status": 200}
        assert (await client.get(f"{ada}/usage")).status_code == 404


async def test_a_lease_gives_a_sandbox_the_tokens_of_its_person(serve: Serve, issuer: LoopbackIssuer) -> None:
    async with serve() as client:
        ada = await signed_in(client, issuer, email="ada@example.com")
        made = (await client.post(f"{ada}/lease")).json()
        form = {"grant_type": "refresh_token", "refresh_token": made["handle"]}
        granted = await client.post(made["refresh_url"], data=form)
        assert (granted.status_code, granted.json()["token_type"]) == (200, "Bearer")
        assert (await client.delete(ada)).status_code == 200
        refused = await client.post(made["refresh_url"], data=form)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
