"""authstate and the real codex in one home at the same moment: nobody loses a login."""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from interop.test_codex import refresh_token_in, run
from support.wire_client import AUTHSTATE, WireClient, clean_environment

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]


def wait_for_a_refresh(issuer: LoopbackIssuer) -> None:
    """Return when the token endpoint was asked."""
    deadline = monotonic() + 60
    while not issuer.stats()["requests"].get("/oauth/token"):
        assert monotonic() < deadline, "nobody asked for a refresh"


async def test_codex_signs_in_while_authstate_holds_its_lock(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    async with AuthJsonStore(home).locked():
        done = run([str(codex), "login", "--with-api-key"], home, issuer, "sk-interop-1\n")
    assert (done.returncode, done.stderr.count("timed out")) == (0, 0)
    assert json.loads((home / "auth.json").read_text())["OPENAI_API_KEY"] == "sk-interop-1"


async def test_codex_can_store_what_it_refreshed_while_authstate_holds_its_lock(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """codex 0.169.0 would wait 5 s for `auth.json.lock`, and then lose the only tokens that still work."""
    home = make_home(email="person@example.com")
    before = refresh_token_in(home)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        async with AuthJsonStore(home).locked():
            client.result("account/read", {"refreshToken": True})
            assert refresh_token_in(home) != before


def test_when_codex_spends_the_token_first_authstate_takes_what_codex_stored(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    environment = clean_environment(home, **issuer.environment)
    with WireClient(AUTHSTATE, environment) as ours, WireClient([str(codex)], environment) as theirs:
        ours.initialize()
        theirs.initialize()
        theirs.result("account/read", {})
        issuer.hold("refresh", times=1)
        asked = ours.start("account/read", {"refreshToken": True})
        wait_for_a_refresh(issuer)
        theirs.result("account/read", {"refreshToken": True})
        by_codex = refresh_token_in(home)
        issuer.release("refresh")
        account = ours.answer_to(asked)["result"]["account"]
    assert account == {"type": "chatgpt", "email": "person@example.com", "planType": "pro"}
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 1)
    assert refresh_token_in(home) == by_codex


def test_a_login_in_one_program_is_seen_by_another_that_shows_nobody(
    make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    environment = clean_environment(make_home(), **issuer.environment)
    with WireClient(AUTHSTATE, environment) as one, WireClient(AUTHSTATE, environment) as other:
        for client in (one, other):
            client.initialize()
            assert client.result("account/read", {})["account"] is None
        login = one.result("account/login/start", {"type": "chatgptDeviceCode"})
        issuer.approve_device(login["userCode"], email="person@example.com")
        assert one.until("account/login/completed")["success"]
        assert other.result("account/read", {})["account"]["email"] == "person@example.com"
        assert other.result("getAuthStatus", {"includeToken": True})["authToken"]
        one.result("account/logout")
        one.result("account/login/start", {"type": "apiKey", "apiKey": "sk-shared-1"})
    with WireClient(AUTHSTATE, environment) as third:
        third.initialize()
        assert third.result("getAuthStatus", {})["authMethod"] == "apikey"
