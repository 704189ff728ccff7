"""Interactive logins through `authstate app-server` as a real process: device codes, cancelling, what comes first."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from support.codex_binaries import NEW, OLD
from support.simulated_browser import agree, decline
from support.wire_client import AUTHSTATE, Message, WireClient, clean_environment

from authstate.testing import LoopbackIssuer, make_jwt

MakeHome = Callable[..., Path]
COMPLETED, UPDATED = "account/login/completed", "account/updated"
DEVICE = {"type": "chatgptDeviceCode"}
BROWSER = {"type": "chatgpt"}
LOGINS = 200
KEY = {"type": "apiKey", "apiKey": "sk-interop"}
EXTERNAL = {
    "type": "chatgptAuthTokens",
    "accessToken": make_jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}}),
    "chatgptAccountId": "org-1",
}


@pytest.fixture
def home(make_home: MakeHome) -> Path:
    return make_home()


@pytest.fixture
def client(home: Path, issuer: LoopbackIssuer) -> Iterator[WireClient]:
    """A client of authstate that has introduced itself."""
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as started:
        started.initialize()
        yield started


def kinds(client: WireClient) -> list[str]:
    """What came in, in order: the method of a notification, or of the request that was answered."""
    return [message.get("method") or f"answer to {client.methods[message['id']]}" for message in client.received[1:]]


def answered(client: WireClient) -> set[Any]:
    """The ids of the requests that were answered."""
    return {message["id"] for message in client.received if "method" not in message}


def stored(home: Path) -> Any:
    return json.loads((home / "auth.json").read_text())


def test_a_device_login(client: WireClient, issuer: LoopbackIssuer, home: Path) -> None:
    started = client.result("account/login/start", DEVICE)
    assert started["verificationUrl"] == f"{issuer.url}/codex/device"
    assert str(UUID(started["loginId"])) == started["loginId"]
    assert client.result("account/read", {})["account"] is None
    issuer.approve_device(started["userCode"], email="who@example.com", plan="pro")
    assert client.until(COMPLETED) == {"loginId": started["loginId"], "success": True, "error": None}
    assert client.until(UPDATED) == {"authMode": "chatgpt", "planType": "pro"}
    account = {"type": "chatgpt", "email": "who@example.com", "planType": "pro"}
    assert client.result("account/read", {})["account"] == account
    assert client.result("account/login/cancel", {"loginId": started["loginId"]}) == {"status": "notFound"}
    assert stored(home)["auth_mode"] == "chatgpt"
    assert client.result("account/logout") == {}
    client.drain(0.2, after=lambda: kinds(client).count(UPDATED) >= 2)
    assert kinds(client) == [
        "answer to account/login/start",
        "answer to account/read",
        COMPLETED,
        UPDATED,
        "answer to account/read",
        "answer to account/login/cancel",
        "answer to account/logout",
        UPDATED,
    ]
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(timeout=60) == 0
    assert issuer.stats()["revocations"] == 1


def test_a_browser_login(client: WireClient, issuer: LoopbackIssuer, home: Path) -> None:
    started = client.result("account/login/start", BROWSER)
    assert (set(started), started["type"]) == ({"type", "loginId", "authUrl"}, "chatgpt")
    page = agree(issuer, started["authUrl"], email="who@example.com", plan="pro")
    assert client.until(COMPLETED) == {"loginId": started["loginId"], "success": True, "error": None}
    assert client.until(UPDATED) == {"authMode": "chatgpt", "planType": "pro"}
    assert stored(home)["tokens"]["access_token"] not in page
    assert client.result("account/read", {})["account"]["email"] == "who@example.com"
    client.drain(0.2)
    assert kinds(client) == ["answer to account/login/start", COMPLETED, UPDATED, "answer to account/read"]


def test_a_browser_login_that_is_declined(client: WireClient, issuer: LoopbackIssuer, home: Path) -> None:
    started = client.result("account/login/start", BROWSER | {"useHostedLoginSuccessPage": 5})
    decline(issuer, started["authUrl"])
    told = client.until(COMPLETED)
    assert (told["loginId"], told["success"], "declined" in told["error"]) == (started["loginId"], False, True)
    assert not (home / "auth.json").exists()


def test_a_browser_login_after_a_device_login_and_the_other_way_round(
    client: WireClient, issuer: LoopbackIssuer
) -> None:
    device = client.result("account/login/start", DEVICE)
    browser = client.result("account/login/start", BROWSER)
    assert client.until(COMPLETED)["loginId"] == device["loginId"]
    client.result("account/login/start", DEVICE)
    assert client.until(COMPLETED)["loginId"] == browser["loginId"]
    with pytest.raises(OSError, match=r"refused|reset"):
        agree(issuer, browser["authUrl"])
    client.drain(0.2)
    assert issuer.stats()["exchanges"] == 0


def test_many_logins_started_and_cancelled_leave_nothing(client: WireClient) -> None:
    def resources() -> tuple[int, int]:
        process = Path(f"/proc/{client.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def rounds(count: int) -> None:
        for number in range(count):
            started = client.result("account/login/start", BROWSER if number % 2 else DEVICE)
            assert client.result("account/login/cancel", {"loginId": started["loginId"]}) == {"status": "canceled"}
            assert client.until(COMPLETED)["loginId"] == started["loginId"]

    rounds(20)
    client.result("account/read", {})
    before = resources()
    rounds(LOGINS)
    client.result("account/read", {})
    after = resources()
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 1, (before, after)


def test_a_login_that_replaces_another_revokes_its_tokens(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(email="old@example.com")
    before = stored(home)["tokens"]["refresh_token"]
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        issuer.approve_device(client.result("account/login/start", DEVICE)["userCode"], email="new@example.com")
        assert client.until(COMPLETED)["success"]
        assert client.result("account/read", {})["account"]["email"] == "new@example.com"
    assert stored(home)["tokens"]["refresh_token"] != before
    assert issuer.stats()["revocations"] == 1


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_cancelling_is_answered_first_and_told_then(client: WireClient, form: str) -> None:
    started = client.result("account/login/start", DEVICE)
    name = form.format(started["loginId"].upper())
    assert client.result("account/login/cancel", {"loginId": name}) == {"status": "canceled"}
    told = client.until(COMPLETED)
    assert (told["loginId"], told["success"]) == (started["loginId"], False)
    assert client.result("account/login/cancel", {"loginId": name}) == {"status": "notFound"}
    client.drain(0.2)
    cancelled = "answer to account/login/cancel"
    assert kinds(client) == ["answer to account/login/start", cancelled, COMPLETED, cancelled]


@pytest.mark.parametrize(
    ("method", "params", "after"),
    [
        ("account/login/start", DEVICE, []),
        ("account/login/start", BROWSER, []),
        ("account/login/start", KEY, [COMPLETED, UPDATED]),
        ("account/login/start", EXTERNAL, [COMPLETED, UPDATED]),
        ("account/logout", None, [UPDATED]),
    ],
)
def test_what_comes_first_ends_a_pending_login_and_the_client_hears_so(
    client: WireClient, method: str, params: Message | None, after: list[str]
) -> None:
    started = client.result("account/login/start", DEVICE)
    client.result(method, params)
    expected = ["answer to account/login/start", f"answer to {method}", COMPLETED, *after]
    client.drain(0.3, after=lambda: len(kinds(client)) >= len(expected))
    assert kinds(client) == expected
    told = next(message["params"] for message in client.received if message.get("method") == COMPLETED)
    assert (told["loginId"], told["success"]) == (started["loginId"], False)
    assert "this login was ended" in told["error"]


def test_a_refusal_of_another_login_leaves_the_pending_one(client: WireClient, issuer: LoopbackIssuer) -> None:
    started = client.result("account/login/start", DEVICE)
    assert client.call("account/login/start", {"type": "apiKey", "apiKey": " "})["error"]["code"] == -32600
    issuer.approve_device(started["userCode"])
    assert client.until(COMPLETED) == {"loginId": started["loginId"], "success": True, "error": None}


@pytest.mark.parametrize(
    ("behaviour", "code", "named"),
    [
        ({"mode": "status", "status": 404}, -32600, "not enabled"),
        ({"mode": "status", "status": 503}, -32603, "503"),
        ({"mode": "html"}, -32603, "without a device code"),
        ({"mode": "status", "status": 403, "code": "forbidden_country"}, -32603, "forbidden_country"),
    ],
)
def test_no_device_code_is_an_error_and_nothing_else(
    client: WireClient, issuer: LoopbackIssuer, behaviour: dict[str, Any], code: int, named: str
) -> None:
    issuer.behave("device", **behaviour)
    error = client.call("account/login/start", DEVICE)["error"]
    assert (error["code"], named in error["message"]) == (code, True)
    client.drain(0.2)
    assert kinds(client) == ["answer to account/login/start"]


def test_an_issuer_that_does_not_answer_holds_up_nobody_else(client: WireClient, issuer: LoopbackIssuer) -> None:
    issuer.behave("device", mode="hang", times=1)
    client.methods["hanging"] = "account/login/start"
    client.send({"id": "hanging", "method": "account/login/start", "params": DEVICE})
    assert client.result("account/read", {})["account"] is None
    assert client.result("account/login/start", KEY) == {"type": "apiKey"}
    client.drain(0.3, after=lambda: {COMPLETED, UPDATED} <= {*kinds(client)} and "hanging" in answered(client))
    [hanging] = [message for message in client.received if message.get("id") == "hanging"]
    assert (hanging["error"]["code"], "this login was ended" in hanging["error"]["message"]) == (-32600, True)
    told = [message["params"] for message in client.received if message.get("method") == COMPLETED]
    assert told == [{"loginId": None, "success": True, "error": None}]


def test_an_exchange_that_is_refused_is_told(client: WireClient, issuer: LoopbackIssuer, home: Path) -> None:
    issuer.behave("exchange", mode="status", status=400, code="invalid_grant")
    issuer.approve_device(client.result("account/login/start", DEVICE)["userCode"])
    told = client.until(COMPLETED)
    assert (told["success"], "invalid_grant" in told["error"]) == (False, True)
    client.drain(0.2)
    assert UPDATED not in kinds(client)
    assert not (home / "auth.json").exists()


def test_a_workspace_that_is_not_allowed(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(config='forced_chatgpt_workspace_id = "org-2"\n')
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        issuer.approve_device(client.result("account/login/start", DEVICE)["userCode"], account_id="org-1")
        told = client.until(COMPLETED)
    assert (told["success"], "org-2" in told["error"]) == (False, True)
    assert not (home / "auth.json").exists()


@pytest.mark.parametrize("kind", [DEVICE, BROWSER], ids=["device", "browser"])
def test_the_end_of_the_input_ends_a_pending_login(client: WireClient, home: Path, kind: Message) -> None:
    started = client.result("account/login/start", kind)
    begun = time.monotonic()
    assert client.process.stdin is not None
    client.process.stdin.close()
    told = client.until(COMPLETED)
    assert told == {"loginId": started["loginId"], "success": False, "error": "this login was ended: the program ends"}
    assert client.process.wait(timeout=60) == 0
    assert time.monotonic() - begun < 60, "the login would last for minutes"
    assert not (home / "auth.json").exists()


def test_codex_reads_what_a_device_login_stored(
    client: WireClient, issuer: LoopbackIssuer, home: Path, codex: Path
) -> None:
    issuer.approve_device(client.result("account/login/start", DEVICE)["userCode"], plan="pro")
    assert client.until(COMPLETED)["success"]
    environment = clean_environment(home, **issuer.environment)
    status = subprocess.run([codex, "login", "status"], env=environment, capture_output=True, text=True, timeout=60)
    assert (status.returncode, "ChatGPT" in status.stdout + status.stderr) == (0, True)


def test_what_is_sent_fits_the_schemas(client: WireClient, issuer: LoopbackIssuer, schemas: dict[str, Path]) -> None:
    cancelled = client.call("account/login/start", DEVICE)
    cancel = client.call("account/login/cancel", {"loginId": cancelled["result"]["loginId"]})
    started = client.call("account/login/start", DEVICE)
    issuer.approve_device(started["result"]["userCode"])
    while not client.until(COMPLETED)["success"]:
        pass
    client.until(UPDATED)
    told = [message for message in client.received if "method" in message]
    assert [message["method"] for message in told] == [COMPLETED, COMPLETED, UPDATED]
    for version, folder in schemas.items():
        files = {path.stem: json.loads(path.read_text()) for path in folder.rglob("*.json")}
        for message in told:
            jsonschema.Draft7Validator(files["ServerNotification"]).validate(message)
        jsonschema.Draft7Validator(files["CancelLoginAccountResponse"]).validate(cancel["result"])
        results = jsonschema.Draft7Validator(files["LoginAccountResponse"])
        # 0.93.0 knows no device codes, so a client of that release never asks for one.
        assert results.is_valid(started["result"]) == (version == NEW), version
    assert set(schemas) == {OLD, NEW}
