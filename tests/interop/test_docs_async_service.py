"""The service in docs/async-service.md, exactly as it stands there, with the loopback issuer and backend."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.page_services import serving
from support.paths import REPO
from support.simulated_browser import agree
from support.wire_client import clean_environment

from authstate import (
    AuthError,
    IssuerUnavailable,
    LoginCompleted,
    PermanentRefreshError,
    RefreshDeadReason,
    StoreBusy,
)
from authstate.testing import LoopbackIssuer

pytest.importorskip("fastapi", reason="FastAPI of the test extra runs this service")
PAGE = "async-service.md"
TEXT = (REPO / "docs" / PAGE).read_text(encoding="utf-8")
PROGRAM, EVENTS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
PLAIN_STREAM = """
from fastapi.responses import StreamingResponse

EventSourceResponse = lambda states: StreamingResponse(f"event: {one['event']}\\n" async for one in states)
"""

Serve = Callable[[Path], Any]


@pytest.fixture
def serve(issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Serve:
    """Runs the service of the page on a home, with its lifespan; gives a client of it."""

    def running(home: Path) -> Any:
        for name, value in {**issuer.environment, "CODEX_HOME": str(home)}.items():
            monkeypatch.setenv(name, value)
        return serving(PROGRAM, PAGE, caplog)

    return running


async def test_requests_are_authorized_and_many_refusals_cost_one_refresh(
    serve: Serve, make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    async with serve(make_home(email="person@example.com")) as client:
        answer = await client.get("/usage")
        assert (answer.status_code, answer.text) == (200, '{"status":200}')
        assert answer.text in TEXT
        issuer.expire_access()
        answers = await asyncio.gather(*(client.get("/usage") for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert issuer.stats()["refreshes_accepted"] == 1
        assert (await client.get("/health")).json() == {"state": "chatgpt", "message": None, "isRefreshing": False}


async def test_a_dead_login_says_sign_in(serve: Serve, make_home: Callable[..., Path], issuer: LoopbackIssuer) -> None:
    home = make_home(email="person@example.com", expires_in=-60)
    issuer.revoke()  # before the service starts, which refreshes at once
    async with serve(home) as client:
        answer = await client.get("/usage")
        assert (answer.status_code, answer.json()["error"]) == (503, "sign_in"), answer.text
        health = await client.get("/health")
        assert (health.status_code, health.json()["state"]) == (503, "refresh_dead")
        assert health.json()["message"] == answer.json()["message"]


@pytest.mark.parametrize(
    ("error", "code", "wait"),
    [
        (IssuerUnavailable("it is overloaded", 7.2), "try_again", "7"),
        (StoreBusy("it is locked"), "try_again", "5"),
        (PermanentRefreshError(RefreshDeadReason.EXPIRED), "sign_in", None),
    ],
)
async def test_what_passes_says_try_again(
    serve: Serve, make_home: Callable[..., Path], error: AuthError, code: str, wait: str | None
) -> None:
    async def fail(request: object) -> None:
        raise error

    async with serve(make_home()) as client:
        client.app.add_route("/fail", fail)
        answer = await client.get("/fail")
    assert (answer.status_code, answer.json()) == (503, {"error": code, "message": str(error)})
    assert answer.headers.get("Retry-After") == wait


async def test_a_person_signs_in_with_a_code_and_out(
    serve: Serve, make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    async with serve(make_home()) as client:
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/usage")).json()["error"] == "sign_in"
        given_up = (await client.post("/sign-in")).json()
        assert (await client.delete(f"/sign-in/{given_up['id']}")).json() == {"cancelled": True}
        assert (await client.get(f"/sign-in/{given_up['id']}")).json()["state"] == "cancelled"
        assert (await client.get("/sign-in/other")).status_code == 404

        opened = (await client.post("/sign-in")).json()
        assert opened["open"].startswith("http") and "code" in opened["warning"]
        events = client.app.state.engine.events()
        issuer.approve_device(opened["code"], email="person@example.com")
        assert (await anext(event async for event in events if isinstance(event, LoginCompleted))).success
        assert (await client.get(f"/sign-in/{opened['id']}")).json() == {"state": "succeeded", "message": None}
        assert (await client.get("/usage")).status_code == 200
        assert (await client.post("/sign-out")).json() == {"state": "logged_out"}
        assert (await client.get("/health")).status_code == 503


async def test_a_person_signs_in_with_a_browser(
    serve: Serve, make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    async with serve(make_home()) as client:
        opened = (await client.post("/sign-in", params={"kind": "browser"})).json()
        await asyncio.to_thread(agree, issuer, opened["open"], email="person@example.com")
        assert (await client.get(f"/sign-in/{opened['id']}")).json()["state"] == "succeeded"
        assert (await client.get("/usage")).status_code == 200


async def test_a_key_that_the_backend_refuses_is_reported(
    serve: Serve, make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    home = make_home()
    (home / "auth.json").write_text('{"OPENAI_API_KEY": "sk-refused"}')
    (home / "auth.json").chmod(0o600)
    async with serve(home) as client:
        answer = await client.get("/usage")
        assert (answer.status_code, answer.json()["error"]) == (503, "refused")


@pytest.mark.parametrize(
    ("replaced", "options"), [("", []), (PLAIN_STREAM, ["--timeout-graceful-shutdown", "1"])], ids=["sse", "plain"]
)
def test_ctrl_c_ends_the_service_while_a_stream_of_events_is_open(
    tmp_path: Path, make_home: Callable[..., Path], issuer: LoopbackIssuer, replaced: str, options: list[str]
) -> None:
    pytest.importorskip("sse_starlette", reason="sse-starlette of the test extra serves this stream")
    assert not options or options[0] in TEXT
    (tmp_path / "app.py").write_text(PROGRAM + EVENTS + replaced)
    environment = clean_environment(make_home(email="person@example.com"), **issuer.environment)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(listener.fileno()), *options]
        service = subprocess.Popen(
            command, cwd=tmp_path, env=environment, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
        )
    try:
        with (
            httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
            client.stream("GET", "/events") as answer,
        ):
            texts = answer.iter_text()  # the stream is closed when this iterator is
            assert "event: state" in next(texts)
            service.send_signal(signal.SIGINT)
            _, logged = service.communicate(timeout=60)
    finally:
        service.kill()
        service.communicate()
    assert "Application shutdown complete" in logged
