"""A tiny server of the account API with one fault, for the tests of `authstate verify`: `account_server.py FAULT`.

It has API keys, external tokens, device logins, a stored ChatGPT login and its refresh, and the rate limits. It looks
for no other process. Standard library only.
"""

import base64
import json
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

FAULT = sys.argv[1]
HOME = Path(os.environ["CODEX_HOME"])
AUTH = HOME / "auth.json"
CONFIG = (HOME / "config.toml").read_text()
ISSUER = os.environ["CODEX_APP_SERVER_LOGIN_ISSUER"]
LIMITS = "account/rateLimits/read"
METHODS = ("initialize", "account/read", "account/login/start", "account/logout", "getAuthStatus", LIMITS)
SENDING = threading.Lock()
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """A request is refused with -32600."""


def send(**message: Any) -> None:
    """Write one line, whole: the thread of a device login writes, too."""
    with SENDING:
        print(json.dumps(message), flush=True)


def ask(url: str, body: Any = None, bearer: str | None = None) -> Any:
    """Send a request and return the answer. Raises HTTPError."""
    form = isinstance(body, list)
    data = urllib.parse.urlencode(body).encode() if form else json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data)
    request.add_header("Content-Type", "application/x-www-form-urlencoded" if form else "application/json")
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    with OPENER.open(request) as answer:
        return json.loads(answer.read())


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def is_forbidden(token: str, fault: str) -> bool:
    """Whether config.toml forces API keys, or another workspace than that of the token."""
    if 'forced_login_method = "api"' in CONFIG:
        return True
    workspace = claims_of(token)["https://api.openai.com/auth"]["chatgpt_account_id"]
    return "forced_chatgpt_workspace_id" in CONFIG and f'"{workspace}"' not in CONFIG and fault != FAULT


class Server:
    """The session, and a method for each request."""

    def __init__(self) -> None:
        self.mode: str | None = None
        self.token: str | None = None
        self.claims: dict[str, Any] = {}
        self.is_initialized = self.is_dead = False
        self.after: list[tuple[str, dict[str, Any]]] = []
        if AUTH.exists() and FAULT != "forgets the stored login":
            self.restore(json.loads(AUTH.read_text()))

    def restore(self, stored: dict[str, Any]) -> None:
        if stored.get("tokens") and not is_forbidden(stored["tokens"]["access_token"], "uses a forbidden login"):
            self.use("chatgpt", stored["tokens"]["access_token"])
        elif stored.get("OPENAI_API_KEY") and 'forced_login_method = "chatgpt"' not in CONFIG:
            self.use("apikey", stored["OPENAI_API_KEY"])

    def use(self, mode: str | None, token: str | None) -> None:
        self.mode, self.token, self.is_dead = mode, token, False
        if mode in ("chatgpt", "chatgptAuthTokens") and token:
            self.claims = claims_of(token)

    def save(self, content: dict[str, Any]) -> None:
        AUTH.write_text(json.dumps(content))
        AUTH.chmod(0o644 if FAULT == "stores for everybody" else 0o600)
        if FAULT == "keeps a copy":
            (HOME / "auth.json.bak").write_text(json.dumps(content))

    def initialize(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.is_initialized and FAULT != "is initialized twice":
            raise Refused("Already initialized")
        self.is_initialized = True
        return {"userAgent": "authstate-verify/1.0 (test)"}

    def account(self) -> dict[str, Any] | None:
        if self.mode == "apikey":
            return {"type": "apiKey"}
        if self.mode is None or (self.is_dead and FAULT != "shows a dead login"):
            return None
        plan = self.claims["https://api.openai.com/auth"]["chatgpt_plan_type"]
        email = "nobody@example.com" if FAULT == "shows another person" else self.claims["email"]
        return {"type": "chatgpt", "email": email, "planType": plan}

    def read(self, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("refreshToken") and self.mode == "chatgpt":
            if FAULT == "never refreshes":
                pass
            elif not self.is_dead or FAULT == "sends a dead token again":
                self.refresh()
            if FAULT == "refreshes twice":
                self.refresh(self.sent)
        result = {"account": self.account(), "requiresOpenaiAuth": True}
        return {**result, "debug": self.token} if FAULT == "shows the token" else result

    def refresh(self, token: str | None = None) -> None:
        stored = json.loads(AUTH.read_text())
        self.sent = token or stored["tokens"]["refresh_token"]
        body = {"grant_type": "refresh_token", "refresh_token": self.sent, "client_id": "x"}
        try:
            fresh = ask(f"{ISSUER}/oauth/token", body)
        except urllib.error.HTTPError as error:
            self.is_dead = token is None and (error.code == 401 or FAULT == "ends a login for a passing error")
            return
        if FAULT == "drops unknown members":
            stored.pop("of_a_later_release", None)
        self.use("chatgpt", fresh["access_token"])
        if FAULT != "does not store a refresh":
            self.save({**stored, "tokens": {**stored["tokens"], **fresh}})

    def limits(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.mode in (None, "apikey") or self.is_dead:
            raise Refused("no ChatGPT account")
        tries = 30 if FAULT == "refreshes without end" else 2
        for number in range(tries):
            try:
                return {"rateLimits": ask(f"{ISSUER}/backend-api/wham/usage", bearer=self.token)}
            except urllib.error.HTTPError:
                if number + 1 < tries and FAULT != "gives up at a 401":
                    self.recover()
        raise Refused("the backend refuses the token")

    def recover(self) -> None:
        if self.mode == "chatgpt":
            stored = json.loads(AUTH.read_text())["tokens"]["access_token"]
            if stored != self.token and FAULT != "refreshes what another process refreshed":
                self.use("chatgpt", stored)
            elif not self.is_dead:
                self.refresh()
            return
        send(id=1000, method="account/chatgptAuthTokens/refresh", params={"reason": "unauthorized"})
        answer = json.loads(sys.stdin.readline())
        token = answer.get("result", {}).get("accessToken")
        if token is None and FAULT == "signs out if the parent refuses":
            self.use(None, None)
        auth = "https://api.openai.com/auth"
        if token and (claims_of(token)[auth] == self.claims[auth] or FAULT == "takes any workspace of the parent"):
            self.use("chatgptAuthTokens", token)

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"authMethod": self.mode, "authToken": None if self.is_dead else self.token, "requiresOpenaiAuth": True}

    def login(self, params: dict[str, Any]) -> dict[str, Any]:
        kind = params.get("type")
        if kind == "apiKey":
            self.use_key(params)
        elif kind == "chatgptAuthTokens":
            if FAULT == "stores external tokens":
                (HOME / "session.json").write_text(params["accessToken"])
            if is_forbidden(params["accessToken"], "ignores the workspace"):
                raise Refused("another workspace")
            self.use("chatgptAuthTokens", params["accessToken"])
        elif kind == "chatgptDeviceCode":
            if self.mode == "chatgptAuthTokens" or 'forced_login_method = "api"' in CONFIG:
                raise Refused("not now")
            device = ask(f"{ISSUER}/api/accounts/deviceauth/usercode", {"client_id": "x"})
            threading.Thread(target=self.finish_device, args=(device,), daemon=True).start()
            return {
                "type": kind,
                "loginId": device["user_code"],
                "verificationUrl": ISSUER,
                "userCode": device["user_code"],
            }
        else:
            raise Refused("unknown variant")
        self.after = [
            ("account/login/completed", {"loginId": None, "success": True, "error": None}),
            ("account/updated", {"authMode": self.mode}),
        ]
        if FAULT == "tells in the wrong order":
            self.after.reverse()
        if FAULT == "does not tell of a login":
            self.after.pop()
        return {"type": kind}

    def finish_device(self, device: dict[str, Any]) -> None:
        """Wait for the approval of a device login."""
        while True:
            try:
                granted = ask(f"{ISSUER}/api/accounts/deviceauth/token", device)
                break
            except urllib.error.HTTPError:
                threading.Event().wait(0.01)
        form = [("grant_type", "authorization_code"), ("code", granted["authorization_code"])]
        tokens = ask(f"{ISSUER}/oauth/token", [*form, ("code_verifier", granted["code_verifier"])])
        succeeds = not is_forbidden(tokens["access_token"], "ignores the workspace of a device login")
        if succeeds:
            self.save({"auth_mode": "chatgpt", "tokens": tokens})
            self.use("chatgpt", tokens["access_token"])
        self.after = [("account/login/completed", {"loginId": device["user_code"], "success": succeeds, "error": None})]
        if succeeds:
            self.after.append(("account/updated", {"authMode": self.mode}))
        self.tell()

    def use_key(self, params: dict[str, Any]) -> None:
        key = params.get("apiKey")
        if key is None:
            raise Refused("missing field")
        content = {"auth_mode": "apikey", "OPENAI_API_KEY": key}
        if self.mode == "chatgptAuthTokens":
            if FAULT == "stores a refused login":
                self.save(content)
            raise Refused("external tokens are active")
        if 'forced_login_method = "chatgpt"' in CONFIG and FAULT != "ignores the policy":
            raise Refused("forbidden")
        if not key.strip() and FAULT != "accepts a blank key":
            raise Refused("blank")
        if FAULT != "does not store a login":
            self.save(content)
        self.use("apikey", key)
        if FAULT == "logs the key":
            print(f"signed in with {key}", file=sys.stderr, flush=True)

    def logout(self, _: dict[str, Any]) -> dict[str, Any]:
        if AUTH.exists() and (tokens := json.loads(AUTH.read_text()).get("tokens")):
            ask(f"{ISSUER}/oauth/revoke", {"token": tokens["refresh_token"]})
        if FAULT != "keeps the file after a logout":
            AUTH.unlink(missing_ok=True)
        if FAULT != "keeps the session after a logout":
            self.use(None, None)
        self.after = [("account/updated", {"authMode": None})]
        return {}

    def answer(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            if FAULT != "is silent about bad lines":
                send(id=None, error={"code": -32700, "message": "not JSON"})
            return
        if "id" not in message:
            return
        handlers = (self.initialize, self.read, self.login, self.logout, self.status, self.limits)
        calls = dict(zip(METHODS, handlers, strict=True))
        if FAULT in (f"hangs at {message['method']}", f"ends at {message['method']}"):
            sys.exit() if FAULT.startswith("ends") else threading.Event().wait()
        self.after = []
        try:
            if message["method"] not in calls:
                raise Refused("unknown method")
            if not self.is_initialized and message["method"] != "initialize" and FAULT != "needs no initialize":
                raise Refused("Not initialized")
            result = calls[message["method"]](message.get("params") or {})
        except Refused as error:
            send(
                id=message["id"],
                error={"code": -32000 if FAULT == "uses another code" else -32600, "message": str(error)},
            )
            return
        if FAULT == "writes other lines":
            print("debug: answering", flush=True)
        if FAULT == "tells before it answers":
            self.tell()
        send(id=message["id"], result=result)
        self.tell()

    def tell(self) -> None:
        for method, params in self.after:
            send(method=method, params=params)
        self.after = []


server = Server()
while text := sys.stdin.readline():
    server.answer(text)
