"""No secret of a login shows: codes, verifiers, states and tokens, over real HTTP, with every log at its loudest."""

import asyncio
import gc
import io
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest

from authstate.adapters.logs.event_lines import log_events
from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.device_login import DeviceLogin, start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.issuer_http import IssuerHttp, IssuerResponse
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.events import Event, LoginCompleted
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, LoopbackIssuer

SECRET_MEMBERS = {
    *("access_token", "authorization_code", "code", "code_verifier", "device_auth_id", "id_token", "refresh_token"),
}
OPENER = build_opener(ProxyHandler({}))


class Impatient(SystemClock):
    """Polls at once."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Overheard:
    """Everything secret that went over the wire, in a login's requests and the issuer's answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets: set[str] = set()
        post = IssuerHttp.post

        async def overhear(http: IssuerHttp, url: str, host: str, body: Any, *rest: Any, **kw: Any) -> IssuerResponse:
            answer = await post(http, url, host, body, *rest, **kw)
            for members in (body, answer.members):
                revealed = {name: one.reveal() if isinstance(one, Secret) else one for name, one in members.items()}
                found = (value for name, value in revealed.items() if name in SECRET_MEMBERS)
                self.secrets |= {value for value in found if isinstance(value, str)}
            return answer

        monkeypatch.setattr(IssuerHttp, "post", overhear)

    def assert_hidden(self, text: str) -> None:
        """Raises AssertionError without showing the secret."""
        shown = [secret[:6] for secret in self.secrets if secret in text]
        assert not shown, f"secrets that begin with {shown}"


class Run:
    """An engine with a file on disk, and all that came out of it."""

    def __init__(self, home: Path, loopback: LoopbackIssuer, overheard: Overheard) -> None:
        self.loopback = loopback
        self.overheard = overheard
        self.issuer = Issuer(loopback.url, "app")
        self.engine = AuthEngine(AuthJsonStore(home), FakeAuthority())
        self.events: list[Event] = []
        self.pages: list[str] = []
        self.logins: list[BrowserLogin | DeviceLogin] = []
        self.engine.subscribe(self.events.append)
        log_events(self.engine)

    async def by_browser(self, **answer: str) -> None:
        """A browser login whose answer from the issuer has these parameters beside its state."""
        login = await start_browser_login(self.engine, self.issuer, ports=(0,), linger=60.0)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(login.auth_url).query).items()}
        self.overheard.secrets |= {asked["state"], *(answer[name] for name in answer if name == "code")}
        bound = {"code_challenge": asked["code_challenge"], "redirect_uri": asked["redirect_uri"]}
        if "code" in answer:
            self.loopback.register_code(answer["code"], **bound)
        await self.visit(asked["redirect_uri"], {"code": "ac-forged", "state": "forged"})
        await self.visit(asked["redirect_uri"], {**answer, "state": asked["state"]})
        await login.closed()
        self.logins.append(login)

    async def visit(self, url: str, parameters: dict[str, str]) -> None:
        """What a browser does; it keeps the page and its last address."""
        self.pages.append(await asyncio.to_thread(fetch, f"{url}?{urlencode(parameters)}"))

    async def by_device(self) -> None:
        login = await start_device_login(self.engine, self.issuer, clock=Impatient())
        self.loopback.approve_device(login.user_code)
        await login.closed()
        self.logins.append(login)


def fetch(url: str) -> str:
    """The page and its address, whatever the status."""
    try:
        with OPENER.open(url, timeout=20) as page:
            return f"{page.url} {page.read().decode()}"
    except OSError as refused:
        read = getattr(refused, "read", bytes)
        body: str = read().decode()
        return body


@pytest.fixture
def loopback() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as issuer:
        yield issuer


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What everybody logs, as it comes, at the level that tells everything."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    plain = logging.StreamHandler(stream)
    plain.setFormatter(logging.Formatter("plain %(name)s: %(message)s"))
    root.addHandler(plain)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture
async def run(
    tmp_path: Path, loopback: LoopbackIssuer, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Run]:
    """Each way to sign in once, and each failure that has a secret in its hands."""
    done = Run(tmp_path, loopback, Overheard(monkeypatch))
    async with done.engine:
        await done.by_browser(code="ac-browser-1")
        await done.by_device()
        loopback.behave("exchange", mode="status", status=400, code="invalid_grant", times=1)
        await done.by_browser(code="ac-browser-2")
        loopback.behave("exchange", mode="html", times=1)
        await done.by_browser(code="ac-browser-3")
        loopback.behave("exchange", mode="garbage", times=1)
        await done.by_device()
        await done.by_browser(error="access_denied", error_description="no")
        yield done


async def test_the_run_had_secrets_in_it(run: Run) -> None:
    outcomes = [event.success for event in run.events if isinstance(event, LoginCompleted)]
    assert outcomes == [True, True, False, False, False, False]
    assert len(run.overheard.secrets) >= 20
    assert not any(login.attempt.is_open for login in run.logins)


async def test_no_log_line_shows_a_secret(run: Run, log: io.StringIO) -> None:
    text = log.getvalue()
    assert all(word in text for word in ("plain authstate.engine: state_changed", "plain httpcore"))
    assert "transitions" not in text
    run.overheard.assert_hidden(text)


async def test_no_event_and_no_page_shows_a_secret(run: Run) -> None:
    assert all(page for page in run.pages)
    run.overheard.assert_hidden("".join(map(repr, run.events)))
    run.overheard.assert_hidden("".join(run.pages))


async def test_nothing_that_can_be_reached_shows_a_secret(run: Run) -> None:
    stack: list[object] = [*run.logins, run.engine]
    known: set[int] = set()
    kinds: set[str] = set()
    while stack:
        thing = stack.pop()
        if id(thing) in known or isinstance(thing, type | str | bytes):
            continue
        known.add(id(thing))
        if type(thing).__module__.startswith("authstate.") or isinstance(thing, BaseException):
            kinds.add(type(thing).__name__)
            run.overheard.assert_hidden(f"{thing!r} {thing}")
            if isinstance(thing, BaseException):
                run.overheard.assert_hidden("".join(traceback.format_exception(thing)))
            stack += gc.get_referents(thing)
        elif isinstance(thing, list | tuple | dict | set | asyncio.Future):
            stack += gc.get_referents(thing)
    assert {"BrowserLogin", "DeviceLogin", "DeviceCode", "AuthorizationRequest", "Secret", "LoginAttempt"} <= kinds


async def test_the_tokens_are_among_what_was_overheard(run: Run) -> None:
    tokens = run.engine.session.credentials
    assert isinstance(tokens, ChatgptTokens)
    assert {tokens.access_token.reveal(), tokens.refresh_token.reveal()} <= run.overheard.secrets
