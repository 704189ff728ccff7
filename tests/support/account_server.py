"""A tiny server of the account API with one fault, for the tests of `authstate verify`: `account_server.py FAULT`.

It has API keys, external tokens, a stored ChatGPT login and its refresh, and no more. Standard library only.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FAULT = sys.argv[1]
HOME = Path(os.environ["CODEX_HOME"])
AUTH = HOME / "auth.json"
CONFIG = (HOME / "config.toml").read_text()
METHODS = ("initialize", "account/read", "account/login/start", "account/logout", "getAuthStatus")


class Refused(Exception):
    """A request is refused with -32600."""


def send(**message: Any) -> None:
    print(json.dumps(message), flush=True)


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
        if stored.get("tokens"):
            self.use("chatgpt", stored["tokens"]["access_token"])
        elif stored.get("OPENAI_API_KEY"):
            self.use("apikey", stored["OPENAI_API_KEY"])

    def use(self, mode: str | None, token: str | None) -> None:
        self.mode, self.token, self.is_dead = mode, token, False
        if mode in ("chatgpt", "chatgptAuthTokens") and token:
            part = token.split(".")[1]
            self.claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

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
        body = json.dumps({"grant_type": "refresh_token", "refresh_token": self.sent, "client_id": "x"}).encode()
        request = urllib.request.Request(os.environ["CODEX_REFRESH_TOKEN_URL_OVERRIDE"], body)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                fresh = json.loads(answer.read())
        except urllib.error.HTTPError:
            self.is_dead = token is None
            return
        if FAULT == "drops unknown members":
            stored.pop("of_a_later_release", None)
        self.use("chatgpt", fresh["access_token"])
        if FAULT != "does not store a refresh":
            self.save({**stored, "tokens": {**stored["tokens"], **fresh}})

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"authMethod": self.mode, "authToken": None if self.is_dead else self.token, "requiresOpenaiAuth": True}

    def login(self, params: dict[str, Any]) -> dict[str, Any]:
        kind = params.get("type")
        if kind == "apiKey":
            self.use_key(params)
        elif kind == "chatgptAuthTokens":
            if FAULT == "stores external tokens":
                (HOME / "session.json").write_text(params["accessToken"])
            self.use("chatgptAuthTokens", params["accessToken"])
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
        calls = dict(zip(METHODS, (self.initialize, self.read, self.login, self.logout, self.status), strict=True))
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
for text in sys.stdin:
    server.answer(text)
