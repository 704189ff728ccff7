"""The control API over HTTP: what it shows, what it changes, and what it refuses."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest
from support.sandbox_client import SandboxClient

from authstate.adapters.sandbox.server import RunningSandbox


def fingerprint(token: str) -> str:
    return sha256(token.encode()).hexdigest()[:32]


def states(control: SandboxClient) -> list[tuple[str, str]]:
    return [(token["kind"], token["state"]) for token in control.get("tokens")["tokens"]]


def test_a_new_sandbox(control: SandboxClient, sandbox: RunningSandbox) -> None:
    state = control.get("state")
    assert (state["url"], state["person"], state["lifetime"]) == (sandbox.pointing.url, "ada", 3600)
    assert set(state["counts"].values()) == {0}
    assert [account["name"] for account in control.get("accounts")["accounts"]] == ["ada", "bob"]
    for path in ("logins", "tokens", "requests", "faults"):
        assert control.get(path)[path] == []
    assert control.get("environment") == sandbox.pointing.as_json()


def test_a_refresh_token_that_is_used_twice_is_counted(control: SandboxClient) -> None:
    first = control.sign_in(account="bob")
    second = control.refresh(first["refresh_token"]).json()
    assert states(control) == [
        ("accessToken", "valid"),
        ("refreshToken", "spent"),
        ("accessToken", "valid"),
        ("refreshToken", "valid"),
    ]
    assert control.counts()["refreshTokensUsedTwice"] == 0
    refused = control.refresh(first["refresh_token"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "refresh_token_reused")
    assert control.refresh("rt_nobody_knows").status_code == 401
    counts = control.counts()
    assert (counts["refreshes"], counts["refreshesRefused"], counts["refreshTokensUsedTwice"]) == (1, 2, 1)
    assert control.refresh(second["refresh_token"]).status_code == 200


def test_a_reuse_ends_the_login_if_that_is_ordered(control: SandboxClient) -> None:
    other = control.sign_in(account="ada")
    first = control.sign_in(account="bob")
    second = control.refresh(first["refresh_token"]).json()
    control.post("faults", fault="revokeOnReuse", endpoint="refresh")
    assert control.usage(second["access_token"]) == 200
    reused = control.refresh(first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]["code"]) == (401, "refresh_token_reused")
    assert control.usage(second["access_token"]) == 401
    refused = control.refresh(second["refresh_token"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "refresh_token_invalidated")
    assert [login["works"] for login in control.get("logins")["logins"]] == [True, False]
    assert control.refresh(other["refresh_token"]).status_code == 200
    seen = [request["fault"] for request in control.requests() if request["endpoint"] == "refresh"]
    assert seen == [None, "revokeOnReuse", None, None]


def test_no_answer_and_no_page_shows_a_token(control: SandboxClient) -> None:
    tokens = control.sign_in()
    after = control.refresh(tokens["refresh_token"]).json()
    key = control.post("logins", kind="apiKey")["authJson"]["OPENAI_API_KEY"]
    assert control.usage(key) == control.usage(after["access_token"]) == 200
    control.http.post("/oauth/revoke", json={"token": after["refresh_token"]})
    secrets = [key, *(value for of in (tokens, after) for name, value in of.items() if name.endswith("_token"))]
    for path in ("", *(f"sandbox/{path}" for path in ("state", "logins", "tokens", "requests", "faults"))):
        shown = control.http.get(f"/{path}").text
        assert not [secret for secret in secrets if secret in shown], path
    listed = [token["fingerprint"] for token in control.get("tokens")["tokens"]]
    names = ("access_token", "refresh_token")
    assert listed == [*(fingerprint(of[name]) for of in (tokens, after) for name in names), fingerprint(key)]


def test_expired_tokens_of_one_account_and_of_one_login(control: SandboxClient) -> None:
    ada, bob, again = (control.sign_in(account=name)["access_token"] for name in ("ada", "bob", "bob"))
    assert control.post("expire", account="ada") == {"accessTokens": 1}
    assert [control.usage(token) for token in (ada, bob, again)] == [401, 200, 200]
    assert control.post("expire", login="login-3") == {"accessTokens": 1}
    assert [control.usage(token) for token in (ada, bob, again)] == [401, 200, 401]
    assert control.post("expire") == {"accessTokens": 1}
    assert control.usage(bob) == 401
    assert all(login["works"] for login in control.get("logins")["logins"])


def test_revoked_logins(control: SandboxClient) -> None:
    ada, bob = control.sign_in(account="ada"), control.sign_in(account="bob")
    personal = control.post("logins", account="bob", kind="personalAccessToken")["authJson"]["personal_access_token"]
    assert control.post("revoke", account="bob") == {"logins": 2}
    assert control.usage(ada["access_token"]) == 200
    assert control.usage(bob["access_token"]) == control.usage(personal) == 401
    refused = control.refresh(bob["refresh_token"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "refresh_token_invalidated")
    assert [login["works"] for login in control.get("logins")["logins"]] == [True, False, False]
    assert [state for _, state in states(control)] == ["valid", "valid", "revoked", "revoked", "revoked"]
    assert control.counts()["refreshTokensUsedTwice"] == 0


def test_how_long_access_tokens_last(control: SandboxClient) -> None:
    assert control.usage(control.sign_in(expiresIn=-1)["access_token"]) == 401
    control.post("lifetime", seconds=-5)
    tokens = control.sign_in()
    assert control.usage(tokens["access_token"]) == 401
    assert control.usage(control.refresh(tokens["refresh_token"]).json()["access_token"]) == 401
    control.post("lifetime", seconds=60)
    assert control.usage(control.sign_in()["access_token"]) == 200


def test_a_personal_access_token_has_an_owner(control: SandboxClient) -> None:
    token = control.post("logins", account="bob", kind="personalAccessToken")["authJson"]["personal_access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    owner = control.http.get("/api/accounts/v1/user-auth-credential/whoami", headers=headers).json()
    assert (owner["email"], owner["chatgpt_account_id"]) == ("bob@example.com", "org-bob")
    assert control.post("expire") == {"accessTokens": 0}
    assert control.usage(token) == 200


def test_accounts_can_be_added_and_replaced(control: SandboxClient) -> None:
    added = control.post("accounts", name="eve@corp.example", plan="enterprise")["account"]
    assert added == {
        "name": "eve@corp.example",
        "email": "eve@corp.example",
        "plan": "enterprise",
        "workspaceId": "org-eve",
        "userId": "user-eve",
    }
    control.post("person", account="eve@corp.example")
    control.post("accounts", name="eve@corp.example", email="new@corp.example")
    assert control.get("state")["person"] == "eve@corp.example"
    page = control.http.get("/oauth/authorize?" + "&".join(ASKED)).text
    assert 'value="eve@corp.example" checked> new@corp.example' in page


ASKED = (
    "response_type=code",
    "code_challenge_method=S256",
    "redirect_uri=http://localhost:1/auth/callback",
    "state=s",
    "code_challenge=c",
    "client_id=app",
    "scope=openid",
)


ASKED_BADLY = "&".join(ASKED).replace("localhost:1", "[x")


def test_lost_answers_spend_the_token(control: SandboxClient) -> None:
    tokens = control.sign_in()
    control.post("faults", endpoint="refresh", fault="loseAnswer", times=1)
    with pytest.raises(httpx.TransportError):
        control.refresh(tokens["refresh_token"])
    assert control.refresh(tokens["refresh_token"]).status_code == 401
    assert control.counts()["refreshTokensUsedTwice"] == 1
    first, second = control.requests()
    assert (first["status"], first["isOver"], first["fault"]) == (None, True, "loseAnswer")
    assert (second["status"], second["isOver"], second["fault"]) == (401, True, None)
    assert first["token"] == second["token"] == fingerprint(tokens["refresh_token"])
    assert {first["account"], second["account"]} == {"ada"}


def test_a_request_that_is_refused_spends_nothing(control: SandboxClient) -> None:
    tokens = control.sign_in()
    control.post("faults", endpoint="refresh", fault="refuse", status=429, code="slow_down", retryAfter=7, times=1)
    refused = control.refresh(tokens["refresh_token"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "slow_down")
    assert refused.headers["Retry-After"] == "7"
    assert control.refresh(tokens["refresh_token"]).status_code == 200
    counts = control.counts()
    assert (counts["refreshes"], counts["refreshesFailed"], counts["refreshTokensUsedTwice"]) == (1, 1, 0)


def test_down_and_up_again(control: SandboxClient) -> None:
    token = control.sign_in()["access_token"]
    control.post("faults", fault="down")
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            control.usage(token)
    assert control.get("faults")["faults"] == [{"id": 1, "fault": "down", "endpoint": "all", "timesLeft": None}]
    control.clear_faults()
    assert control.usage(token) == 200


@pytest.mark.parametrize("end", ["release", "clear", "reset"])
@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_held_refresh_is_seen_before_it_is_answered(control: SandboxClient, what: str, end: str) -> None:
    tokens = control.sign_in()
    control.post("faults", endpoint="refresh", fault="hold", what=what)
    revision = control.get("requests")["revision"]
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(control.refresh, tokens["refresh_token"])
        seen = control.get(f"requests?after={revision}&wait=30")["requests"]
        assert [(one["endpoint"], one["isOver"], one["fault"]) for one in seen] == [("refresh", False, "hold")]
        if end == "clear":
            control.clear_faults()
        else:
            control.post(end)
        answer = asking.result()
    assert answer.status_code == (401 if (end, what) == ("reset", "request") else 200)
    assert control.get("faults")["faults"] == []


def test_a_wait_for_requests_ends_with_a_change_or_in_time(control: SandboxClient) -> None:
    now = control.get("requests")
    revision = now["revision"]
    assert control.get(f"requests?after={revision}&wait=0.01") == now
    control.post("person", account="bob")
    assert control.get(f"requests?after={revision}&wait=30")["revision"] > revision


def test_a_reset_begins_anew(control: SandboxClient, sandbox: RunningSandbox) -> None:
    tokens = control.sign_in()
    control.usage(tokens["access_token"])
    control.post("accounts", name="eve")
    control.post("person", account="bob")
    control.post("lifetime", seconds=1)
    control.post("faults", fault="down", endpoint="model")
    assert control.post("reset") == {}
    test_a_new_sandbox(control, sandbox)
    assert control.usage(tokens["access_token"]) == 401
    assert control.refresh(tokens["refresh_token"]).json()["error"]["code"] == "refresh_token_unknown"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/sandbox/nothing", "", 404, "not_found"),
        ("GET", "/sandbox", "", 404, "not_found"),
        ("GET", "/sandbox/expire", "", 405, "method_not_allowed"),
        ("PATCH", "/sandbox/state", "", 405, "method_not_allowed"),
        ("OPTIONS", "/sandbox/faults", "", 405, "method_not_allowed"),
        ("POST", "/sandbox/expire", "{", 400, "invalid_request"),
        ("POST", "/sandbox/expire", "[]", 400, "invalid_request"),
        ("POST", "/sandbox/expire", '{"who": "ada"}', 400, "invalid_request"),
        ("POST", "/sandbox/expire", '{"account": "nobody"}', 404, "not_found"),
        ("POST", "/sandbox/revoke", '{"login": "login-0"}', 404, "not_found"),
        ("POST", "/sandbox/person", "", 400, "invalid_request"),
        ("POST", "/sandbox/person", '{"account": "nobody"}', 404, "not_found"),
        ("POST", "/sandbox/accounts", '{"name": "two words"}', 400, "invalid_request"),
        ("POST", "/sandbox/lifetime", '{"seconds": 1e99}', 400, "invalid_request"),
        ("POST", "/sandbox/logins", '{"kind": "password"}', 400, "invalid_request"),
        ("POST", "/sandbox/faults", '{"fault": "slow"}', 400, "invalid_request"),
        ("POST", "/sandbox/device", '{"userCode": "NONE-0000"}', 404, "not_found"),
        ("POST", "/sandbox/sign-in", '{"authUrl": "http://127.0.0.1/"}', 400, "invalid_request"),
        ("POST", "/sandbox/sign-in", json.dumps({"authUrl": f"/?{'&'.join(ASKED)}"}), 502, "redirect_unreachable"),
        ("POST", "/sandbox/sign-in", '{"authUrl": "http://[x"}', 400, "invalid_request"),
        ("POST", "/sandbox/sign-in", json.dumps({"authUrl": f"/?{ASKED_BADLY}"}), 400, "invalid_request"),
        ("GET", "/sandbox/requests?wait=61", "", 400, "invalid_request"),
        ("GET", "/sandbox/requests?from=1", "", 400, "invalid_request"),
        ("POST", "/control/revoke", "{}", 404, "not_found"),
        ("POST", "/sandbox/reset", "x" * (64 * 1024 + 1), 413, "invalid_request"),
    ],
)
def test_what_is_refused(control: SandboxClient, method: str, path: str, body: str, status: int, code: str) -> None:
    found = control.refusal(method, path, body)
    assert found[:2] == (status, code)
    assert found[2]


def test_a_page_of_another_site_is_refused(control: SandboxClient) -> None:
    token = control.sign_in()["access_token"]
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = control.http.post("/sandbox/revoke", headers=headers, json={})
        assert answer.status_code in (403, 421)
        assert "access-control-allow-origin" not in answer.headers
    assert control.usage(token) == 200


def test_a_body_without_a_length_ends_the_connection(sandbox: RunningSandbox) -> None:
    address = sandbox.pointing.url.removeprefix("http://")
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        lines = ["POST /sandbox/revoke HTTP/1.1", f"Host: {address}", "Transfer-Encoding: chunked", "", "2", "{}", "0"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 411 ")
    assert received.count(b"HTTP/1.1") == 1
