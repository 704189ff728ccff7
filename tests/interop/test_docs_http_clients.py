"""The recipes in docs/http-clients.md, exactly as they stand there, with the loopback issuer, backend and model."""

import asyncio
import io
import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from openai import AsyncOpenAI
from support.network_servers import serving
from support.paths import REPO

from authstate import (
    AuthEngine,
    Authorization,
    HttpTokenAuthority,
    MemoryStore,
    NotSignedIn,
    SyncAuthEngine,
    SyncEngineAuth,
)
from authstate.adapters.cli.demo import read_login
from authstate.testing import LoopbackIssuer

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (REPO / "docs" / "http-clients.md").read_text("utf-8"), re.M | re.S)
HTTPX2, AIOHTTP_TRANSPORT, PORTAL, ASYNC_OPENAI, SYNC_OPENAI, PYDANTIC_AI, AGENTS, PROVIDER, AIOHTTP, REQUESTS = BLOCKS
QUESTION = {"input": [{"role": "user", "content": "hello"}], "model": "gpt-5.2", "instructions": ""}
ASKS = ("ask_responses", "ask_chat_completions")


def recipe(block: str) -> dict[str, Any]:
    """Run a block of the page, and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(compile(block, "http-clients.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def running_issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        yield started


@pytest.fixture
def issuer(running_issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> LoopbackIssuer:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return running_issuer


def made_engine(issuer: LoopbackIssuer, login: dict[str, str]) -> AuthEngine:
    return AuthEngine(
        MemoryStore(read_login(login)), HttpTokenAuthority(issuer.url, "recipes", refresh_url=issuer.refresh_url)
    )


@pytest.fixture
async def engine(issuer: LoopbackIssuer, caplog: pytest.LogCaptureFixture) -> AsyncIterator[AuthEngine]:
    """An engine that is signed in. At the end, no log line of any library holds one of its tokens."""
    caplog.set_level(logging.DEBUG)
    login = issuer.seed()
    async with made_engine(issuer, login) as opened:
        yield opened
        last = await opened.authorization()
    assert_not_logged(caplog, login, last)


@pytest.fixture
def sync_engine(issuer: LoopbackIssuer, caplog: pytest.LogCaptureFixture) -> Iterator[SyncAuthEngine]:
    """The same for code without an event loop."""
    caplog.set_level(logging.DEBUG)
    login = issuer.seed()
    with SyncAuthEngine(made_engine(issuer, login)) as opened:
        yield opened
        last = opened.authorization()
    assert_not_logged(caplog, login, last)


def assert_not_logged(caplog: pytest.LogCaptureFixture, login: dict[str, str], last: Authorization) -> None:
    for token in (login["access_token"], login["refresh_token"], last.token.reveal()):
        assert token not in caplog.text


def refreshes(issuer: LoopbackIssuer) -> int:
    return int(issuer.stats()["refreshes_accepted"])


# httpx and httpx2


async def test_httpx2(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    issuer.expire_access()
    assert await recipe(HTTPX2)["usage"](engine, f"{issuer.backend_url}/wham/usage") == 200


async def test_the_aiohttp_transport_streams_before_and_after_a_401(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    http_client = recipe(AIOHTTP_TRANSPORT)["open_aiohttp_client"](engine, issuer.url)
    async with AsyncOpenAI(base_url=issuer.model_url, api_key="unused", http_client=http_client) as client:
        ask, before = recipe(ASYNC_OPENAI)["ask_responses"], refreshes(issuer)
        assert await ask(client, "hello, then expire") == "You said: hello, then expire"
        assert await ask(client, "hello") == "You said: hello"
    assert refreshes(issuer) == before + 1


async def test_a_thread_beside_an_event_loop(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    issuer.expire_access()
    async with BlockingPortal() as portal:
        auth = SyncEngineAuth(recipe(PORTAL)["PortalEngine"](engine, portal))
        with httpx.Client(auth=auth) as client:
            answer = await asyncio.to_thread(client.get, f"{issuer.backend_url}/wham/usage")
    assert answer.status_code == 200


# OpenAI


@pytest.mark.parametrize("ask", ASKS)
async def test_openai_streams_before_and_after_a_401(issuer: LoopbackIssuer, engine: AuthEngine, ask: str) -> None:
    names, before = recipe(ASYNC_OPENAI), refreshes(issuer)
    async with names["open_client"](engine, issuer.model_url) as client:
        assert await names[ask](client, "hello, then expire") == "You said: hello, then expire"
        assert await names[ask](client, "hello") == "You said: hello"
    assert refreshes(issuer) == before + 1


@pytest.mark.parametrize("ask", ASKS)
def test_openai_without_an_event_loop(issuer: LoopbackIssuer, sync_engine: SyncAuthEngine, ask: str) -> None:
    names, before = recipe(SYNC_OPENAI), refreshes(issuer)

    with names["open_client"](sync_engine, issuer.model_url) as client:
        assert names[ask](client, "hello, then expire") == "You said: hello, then expire"
        assert names[ask](client, "hello") == "You said: hello"
    assert refreshes(issuer) == before + 1


async def test_openai_answers_as_a_whole_after_a_401(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    async with recipe(ASYNC_OPENAI)["open_client"](engine, issuer.model_url) as client:
        issuer.expire_access()
        response = await client.responses.create(model="gpt-5.2", input=messages)
        issuer.expire_access()
        completion = await client.chat.completions.create(model="gpt-5.2", messages=messages)
    assert response.output_text == completion.choices[0].message.content == "You said: hello"


def test_openai_without_an_event_loop_answers_as_a_whole(issuer: LoopbackIssuer, sync_engine: SyncAuthEngine) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    with recipe(SYNC_OPENAI)["open_client"](sync_engine, issuer.model_url) as client:
        issuer.expire_access()
        response = client.responses.create(model="gpt-5.2", input=messages)
        issuer.expire_access()
        completion = client.chat.completions.create(model="gpt-5.2", messages=messages)
    assert response.output_text == completion.choices[0].message.content == "You said: hello"


async def test_a_token_that_expires_meanwhile_is_refreshed_before_the_request(
    issuer: LoopbackIssuer, engine: AuthEngine
) -> None:
    await engine.complete_chatgpt_login(read_login(issuer.seed(expires_in=-60)))
    names = recipe(ASYNC_OPENAI)
    refused = issuer.stats()["backend_refused"]
    async with names["open_client"](engine, issuer.model_url) as client:
        assert await names["ask_responses"](client, "hello") == "You said: hello"
    assert issuer.stats()["backend_refused"] == refused


async def test_openai_raises_the_errors_of_the_engine(issuer: LoopbackIssuer) -> None:
    names = recipe(ASYNC_OPENAI)
    nobody = AuthEngine(MemoryStore(), HttpTokenAuthority(issuer.url, "recipes"))
    async with nobody, names["open_client"](nobody, issuer.model_url) as client:
        with pytest.raises(NotSignedIn):
            await names["ask_responses"](client, "hello")


# Agent frameworks


def weather() -> str:
    """Tell the weather."""
    return "rain"


async def test_a_run_of_pydantic_ai_whose_token_is_refused_in_its_middle(
    issuer: LoopbackIssuer, engine: AuthEngine
) -> None:
    before = refreshes(issuer)
    async with recipe(ASYNC_OPENAI)["open_client"](engine, issuer.model_url) as client:
        agent = recipe(PYDANTIC_AI)["make_agent"](client)
        agent.tool_plain(weather)
        run = await agent.run("use the tool weather, then expire")
        async with agent.run_stream("hello") as streamed:
            assert await streamed.get_output() == "You said: hello"
    assert run.output.endswith("the tool answered: rain")
    assert refreshes(issuer) == before + 1


async def test_a_run_of_openai_agents_whose_token_is_refused_in_its_middle(
    issuer: LoopbackIssuer, engine: AuthEngine
) -> None:
    from agents import function_tool

    before = refreshes(issuer)
    async with recipe(ASYNC_OPENAI)["open_client"](engine, issuer.model_url) as client:
        output = await recipe(AGENTS)["run_agent"](
            client, "use the tool weather, then expire", [function_tool(weather)]
        )
    assert output.endswith("the tool answered: rain")
    assert refreshes(issuer) == before + 1


# Only a token


async def test_a_provider_and_a_401(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    from openai import AuthenticationError

    ask, before = recipe(ASYNC_OPENAI)["ask_responses"], refreshes(issuer)
    async with recipe(PROVIDER)["open_client_with_a_provider"](engine, issuer.model_url) as client:
        assert await ask(client, "hello, then expire") == "You said: hello, then expire"
        for _ in range(2):
            with pytest.raises(AuthenticationError) as raised:
                await ask(client, "hello")
            shown = [repr(client), *traceback.format_exception(raised.value)]
            assert (await engine.authorization()).token.reveal() not in "".join(shown)
        assert refreshes(issuer) == before
        await engine.refresh()
        assert await ask(client, "hello") == "You said: hello"


# aiohttp and requests


async def test_aiohttp(issuer: LoopbackIssuer, engine: AuthEngine) -> None:
    url, before = f"{issuer.model_url}/responses", refreshes(issuer)
    async with recipe(AIOHTTP)["open_session"](engine, issuer.url) as session:
        for _ in range(2):
            async with session.post(url, json=QUESTION) as answer:
                assert answer.status == 200
                assert "You said: hello" in await answer.text()
            issuer.expire_access()
        issuer.behave("model", mode="status", status=401, times=5)
        async with session.post(url, json=QUESTION) as answer:
            assert answer.status == 401
        issuer.behave("model")
    assert refreshes(issuer) == before + 3


def test_requests(issuer: LoopbackIssuer, sync_engine: SyncAuthEngine) -> None:
    url, before = f"{issuer.model_url}/responses", refreshes(issuer)
    with recipe(REQUESTS)["open_session"](sync_engine, issuer.url) as session:
        for _ in range(2):
            answer = session.post(url, json=QUESTION, timeout=30)
            assert answer.status_code == 200
            assert "You said: hello" in answer.text
            issuer.expire_access()
        issuer.behave("model", mode="status", status=401, times=5)
        assert session.post(url, json=QUESTION, timeout=30).status_code == 401
        issuer.behave("model")
    assert refreshes(issuer) == before + 3


class Refusing:
    """Answers every request with a 401, once it has read the body. `bodies` are the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = re.search(rb"content-length: (\d+)", head)
        if b"transfer-encoding: chunked" in head:
            self.bodies.append(await reader.readuntil(b"\r\n0\r\n\r\n"))
        else:
            self.bodies.append(await reader.readexactly(int(size[1]) if size else 0))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()


REPEATABLE = [(b"bytes", 3), ("text", 3), ({"a": "form"}, 3), (None, 3)]


async def pieces() -> AsyncIterator[bytes]:
    yield b"piece"


@pytest.mark.parametrize(("body", "times"), [*REPEATABLE, (pieces, 1)])
async def test_aiohttp_sends_no_body_again_that_is_gone(engine: AuthEngine, body: Any, times: int) -> None:
    refusing = Refusing()
    async with serving(refusing) as port:
        url = f"http://127.0.0.1:{port}"
        data = body() if callable(body) else body
        async with recipe(AIOHTTP)["open_session"](engine, url) as session, session.post(url, data=data) as answer:
            assert answer.status == 401
    assert len(refusing.bodies) == times and len(set(refusing.bodies)) == 1


@pytest.mark.parametrize(
    ("body", "times"), [(b"bytes", 3), ("text", 3), ({"a": "form"}, 3), (None, 3), (io.BytesIO, 1)]
)
async def test_requests_sends_no_body_again_that_is_gone(sync_engine: SyncAuthEngine, body: Any, times: int) -> None:
    refusing = Refusing()
    async with serving(refusing) as port:
        url = f"http://127.0.0.1:{port}"
        data = body(b"file") if callable(body) else body
        with recipe(REQUESTS)["open_session"](sync_engine, url) as session:
            answer = await asyncio.to_thread(session.post, url, data=data, timeout=30)
        assert answer.status_code == 401
    assert len(refusing.bodies) == times and len(set(refusing.bodies)) == 1


def test_the_adapter_of_requests_takes_the_options_of_any_other(sync_engine: SyncAuthEngine) -> None:
    adapter = recipe(REQUESTS)["EngineAdapter"](sync_engine, max_retries=3)
    assert adapter.max_retries.total == 3


class Site:
    """Answers every request, or redirects it. `heads` are the heads of the requests."""

    def __init__(self, location: str = "") -> None:
        self.location = location
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        status = f"307 Temporary Redirect\r\nLocation: {self.location}" if self.location else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


@pytest.fixture
async def sites() -> AsyncIterator[tuple[Site, Site, int]]:
    """A site that redirects to another origin, that other one, and the port of the first."""
    ours, other = Site(), Site()
    async with serving(ours) as port, serving(other) as other_port:
        ours.location = f"http://127.0.0.1:{other_port}/there"
        yield ours, other, port


def assert_only_ours_got_credentials(ours: Site, other: Site) -> None:
    assert [("authorization:" in head, "chatgpt-account-id:" in head) for head in ours.heads] == [(True, True)]
    assert [("authorization:" in head, "chatgpt-account-id:" in head) for head in other.heads] == [(False, False)]


async def test_the_aiohttp_transport_takes_no_credentials_to_another_origin(engine: AuthEngine, sites: Any) -> None:
    ours, other, port = sites
    async with recipe(AIOHTTP_TRANSPORT)["open_aiohttp_client"](engine, f"http://127.0.0.1:{port}") as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200
    assert_only_ours_got_credentials(ours, other)


async def test_aiohttp_takes_no_credentials_to_another_origin(engine: AuthEngine, sites: Any) -> None:
    ours, other, port = sites
    session = recipe(AIOHTTP)["open_session"](engine, f"http://127.0.0.1:{port}")
    async with session, session.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 200
    assert_only_ours_got_credentials(ours, other)


async def test_requests_takes_no_credentials_to_another_origin(sync_engine: SyncAuthEngine, sites: Any) -> None:
    ours, other, port = sites
    with recipe(REQUESTS)["open_session"](sync_engine, f"http://127.0.0.1:{port}") as session:
        answer = await asyncio.to_thread(session.get, f"http://127.0.0.1:{port}/", timeout=30)
    assert answer.status_code == 200
    assert_only_ours_got_credentials(ours, other)
