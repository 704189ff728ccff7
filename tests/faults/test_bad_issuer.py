"""An issuer that fails or answers nonsense: the error is typed, and the session and auth.json are unchanged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from faults.bad_issuer import HANG, HANG_HALFWAY, RESET, answer, serve_answers
from support.ports import private_port

from authstate import AuthEngine, AuthState, ChatgptTokens, RefreshSettings
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import AuthError, IssuerUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.testing import make_tokens

ONE_TRY = RefreshSettings(first_wait=0.0, total=0.0, rechecks=(0.0,))
SECRET = "rt-that-nobody-may-see"


async def signed_in(home: Path) -> bytes:
    """Store a login whose access token has expired. Returns the content of auth.json."""
    async with AuthJsonStore(home).locked() as held:
        await held.save(make_tokens(refresh_token=SECRET, expires_in=-60.0))
    return (home / "auth.json").read_bytes()


@asynccontextmanager
async def engine_at(home: Path, port: int, settings: RefreshSettings = ONE_TRY) -> AsyncIterator[AuthEngine]:
    """An engine on a home, with an issuer on a port of loopback."""
    authority = HttpTokenAuthority(f"http://127.0.0.1:{port}", "client", timeout=30.0)
    async with AuthEngine(AuthJsonStore(home), authority, settings=settings) as engine:
        yield engine
    await authority.aclose()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no proxy for loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


TRANSIENT = {
    "html": answer("200 OK", b"<!doctype html><title>Sign in to this network</title>", "Content-Type: text/html"),
    "html 403": answer("403 Forbidden", b"<html>blocked</html>"),
    "nothing": answer("200 OK", b""),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no answer at all": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "200 with an unknown error": answer("200 OK", b'{"error": {"code": "server_error"}}'),
    "200 with an empty token": answer("200 OK", b'{"access_token": ""}'),
    "200 with null": answer("200 OK", b"null"),
    "200 with a list": answer("200 OK", b'["access_token"]'),
    "wrong types": answer("200 OK", b'{"access_token": 7, "refresh_token": [], "error": [["a"]], "code": {}}'),
    "a token with a line break": answer("200 OK", b'{"access_token": "a\\r\\nb"}'),
    "deep nesting": answer("200 OK", b"[" * 200_000),
    "not UTF-8": answer("200 OK", b'{"access_token": "\xff\xfe"}'),
    "10 MB": answer("200 OK", b'{"padding": "' + b"x" * 10_000_000 + b'"}'),
    "cut short": answer("200 OK", b'{"access_token": "abc', length=500),
    "hang": HANG,
    "hang halfway": HANG_HALFWAY,
    "reset": RESET,
    "redirect": answer("307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/"),
    "400": answer("400 Bad Request", b'{"error": "invalid_request"}'),
    "429": answer("429 Too Many Requests", b"{}", "Retry-After: 3600"),
    "500": answer("500 Internal Server Error", b"oops"),
    "503": answer("503 Service Unavailable", b"{}"),
}


@pytest.mark.parametrize("reply", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_an_answer_that_is_none_changes_nothing(
    reply: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await signed_in(tmp_path)
    loop = asyncio.get_running_loop()
    time = loop.time
    async with serve_answers(reply) as issuer, engine_at(tmp_path, issuer.port) as engine:
        issuer.on_hang = lambda: monkeypatch.setattr(loop, "time", lambda: time() + 60.0)  # the timeout is over
        session = engine.session
        for call in (engine.refresh, engine.authorization):
            with pytest.raises(IssuerUnavailable) as caught:
                await call()
            assert SECRET not in str(caught.value)
            assert "127.0.0.1" in str(caught.value)
        assert engine.session is session
        assert issuer.requests == 1, "the second call fails with the error of the first one"
    assert (tmp_path / "auth.json").read_bytes() == before
    beside = {f"auth.json.authstate.{tail}" for tail in ("lock", "claims")}
    assert {path.name for path in tmp_path.iterdir()} - beside == {"auth.json"}


async def test_no_connection_is_used_twice(tmp_path: Path) -> None:
    """A connection that is kept open may break before its next request. Nobody would know if the token was spent."""
    await signed_in(tmp_path)
    connections: set[object] = set()

    async def keep_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer.get_extra_info("peername"))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                assert b"accept-encoding: identity" in lines, "the request accepts compressed answers"
                await reader.readexactly(next(int(line[15:]) for line in lines if line.startswith(b"content-length:")))
                writer.write(answer("503 Service Unavailable", b"{}"))
        writer.close()

    server = await asyncio.start_server(keep_open, "127.0.0.1", 0)
    async with engine_at(tmp_path, server.sockets[0].getsockname()[1]) as engine:
        for _ in range(3):
            with pytest.raises(IssuerUnavailable, match="503"):
                await engine.refresh()
    server.close()
    assert len(connections) == 3


async def test_connection_refused(tmp_path: Path) -> None:
    before = await signed_in(tmp_path)
    async with engine_at(tmp_path, private_port()) as engine:
        with pytest.raises(IssuerUnavailable, match="cannot be reached"):
            await engine.refresh()
        assert engine.session.state is AuthState.CHATGPT
    assert (tmp_path / "auth.json").read_bytes() == before


async def test_an_issuer_that_is_no_url(tmp_path: Path) -> None:
    before = await signed_in(tmp_path)
    for url in ("ftp://127.0.0.1", "http://", "not a url", "http://[::1", "http://127.0.0.1:99999"):
        async with AuthEngine(AuthJsonStore(tmp_path), HttpTokenAuthority(url, "client"), settings=ONE_TRY) as engine:
            with pytest.raises(IssuerUnavailable):
                await engine.refresh()
    assert (tmp_path / "auth.json").read_bytes() == before


async def test_retry_after_is_handed_on(tmp_path: Path) -> None:
    await signed_in(tmp_path)
    reply = answer("429 Too Many Requests", b"{}", "Retry-After: 3600")
    async with serve_answers(reply) as issuer, engine_at(tmp_path, issuer.port, RefreshSettings()) as engine:
        with pytest.raises(IssuerUnavailable) as caught:
            await engine.refresh()
    assert caught.value.retry_after == 3600.0
    assert issuer.requests == 1, "nobody waits an hour, and no request is sent before it is over"


PERMANENT = {
    "expired": (answer("400 Bad Request", b'{"error": {"code": "refresh_token_expired"}}'), RefreshDeadReason.EXPIRED),
    "reused": (answer("401 Unauthorized", b'{"error": "REFRESH_TOKEN_REUSED"}'), RefreshDeadReason.EXHAUSTED),
    "revoked": (answer("403 Forbidden", b'{"code": "refresh_token_invalidated"}'), RefreshDeadReason.REVOKED),
    "401 with HTML": (answer("401 Unauthorized", b"<html>no</html>"), RefreshDeadReason.UNKNOWN),
    "401 with nothing": (answer("401 Unauthorized", b""), RefreshDeadReason.UNKNOWN),
    "200 with a known error": (
        answer("200 OK", b'{"error": {"code": "refresh_token_invalidated"}}'),
        RefreshDeadReason.REVOKED,
    ),
}


@pytest.mark.parametrize(("reply", "reason"), PERMANENT.values(), ids=PERMANENT.keys())
async def test_a_refusal_is_remembered_and_keeps_the_file(
    reply: bytes, reason: RefreshDeadReason, tmp_path: Path
) -> None:
    before = await signed_in(tmp_path)
    async with serve_answers(reply) as issuer, engine_at(tmp_path, issuer.port) as engine:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (engine.refresh, engine.authorization, engine.refresh)
        for call in calls:
            with pytest.raises(PermanentRefreshError) as caught:
                await call()
            assert caught.value.reason is reason
            assert SECRET not in str(caught.value)
        assert engine.session.state is AuthState.REFRESH_DEAD
        assert issuer.requests == 1
    assert (tmp_path / "auth.json").read_bytes() == before


async def test_a_spent_token_is_kept_whatever_else_is_wrong(tmp_path: Path) -> None:
    """An answer without access token brings a new refresh token: it is stored, because the old one is spent."""
    await signed_in(tmp_path)
    partial = serve_answers(answer("200 OK", b'{"refresh_token": "rt-next"}'))
    async with partial as issuer, engine_at(tmp_path, issuer.port) as engine:
        with pytest.raises(AuthError):
            await engine.refresh()
    stored = await AuthJsonStore(tmp_path).load()
    assert isinstance(stored, ChatgptTokens)
    assert stored.refresh_token.reveal() == "rt-next"
