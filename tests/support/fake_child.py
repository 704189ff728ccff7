"""A fake `codex app-server` that the tests control: `python fake_child.py MODE app-server`.

MODE is one of:
    plain         nothing special
    prints-text   first prints text that is not JSON
    exits         exits with status 3 at once
    silent        answers nothing
    refuses       refuses the first `initialize`
    closes-input  closes its input and goes on running
    refuses-keys  refuses API keys, and repeats the key in the error
    own-login     has a ChatGPT login of its own
    kept-key:KEY  has an API key from an earlier run

Requests that only the fake has:
    x/token       returns the token that it uses
    x/ask         asks the parent for new tokens, `times` times with the same id, and returns the answers
    x/say         writes `line` unchanged
    x/exit        exits with `status`
    x/kill        ends itself by `signal`
    x/wait        never answers
    x/sleep       stops reading
    x/flood       sends `lines` notifications of `size` bytes, then answers
All other requests are answered with their own params.
"""

import json
import os
import sys
import time
from typing import Any

Json = dict[str, Any]


class Child:
    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.token: str | None = None
        self.logins: list[str] = []
        self.refusals = 1 if mode == "refuses" else 0
        self.refresh_requests = 0
        self.asked: dict[Any, tuple[Any, int]] = {}
        self.answers: list[Any] = []

    def run(self) -> None:
        if self.mode == "prints-text":
            print("warming up: this is no JSON\n{\n\xff", flush=True)
        if self.mode == "exits":
            sys.exit(3)
        if self.mode == "closes-input":
            os.close(0)
            time.sleep(600)
        for line in sys.stdin.buffer:
            if self.mode != "silent":
                self.take(json.loads(line))

    def take(self, message: Json) -> None:
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self.answered(message)
        elif "id" in message:
            answer = self.answer(method, params, message["id"])
            if answer is not None:
                self.send({"id": message["id"], **answer})

    def answer(self, method: str, params: Json, number: Any) -> Json | None:
        if method == "initialize":
            if self.refusals:
                self.refusals -= 1
                return {"error": {"code": -32600, "message": "not today"}}
            return {"result": {"userAgent": "fake/1.0", "capabilities": params.get("capabilities")}}
        if method == "getAuthStatus" and self.mode == "own-login":
            return {"result": {"authMethod": "chatgpt", "authToken": None}}
        if method == "getAuthStatus" and self.mode.startswith("kept-key:"):
            key = self.mode.partition(":")[2]
            return {"result": {"authMethod": "apikey", "authToken": key if params.get("includeToken") else None}}
        if self.mode == "refuses-keys" and params.get("type") == "apiKey":
            return {"error": {"code": -32600, "message": f"I do not like {params['apiKey']}"}}
        if method == "account/login/start":
            self.logins.append(params["type"])
            self.token = params.get("accessToken") or params.get("apiKey")
            self.send({"id": number, "result": {"type": params["type"]}})
            self.send({"method": "account/login/completed", "params": {"loginId": None, "success": True}})
            self.send({"method": "account/updated", "params": {"authMode": "chatgptAuthTokens"}})
            return None
        if method == "account/logout":
            self.token = None
            self.logins.append("logout")
            return {"result": {}}
        return self.do(method, params, number)

    def do(self, method: str, params: Json, number: Any) -> Json | None:
        if method == "x/token":
            return {"result": {"token": self.token, "logins": self.logins}}
        if method == "x/ask":
            self.ask(number, params)
            return None
        if method == "x/say":
            sys.stdout.buffer.write(params["line"].encode() + b"\n")
            sys.stdout.buffer.flush()
        elif method == "x/exit":
            sys.exit(params["status"])
        elif method == "x/kill":
            os.kill(os.getpid(), params["signal"])
        elif method == "x/wait":
            return None
        elif method == "x/sleep":
            time.sleep(3600)
        elif method == "x/flood":
            for index in range(params["lines"]):
                self.send({"method": "x/flooded", "params": {"n": index, "text": "x" * params["size"]}})
        return {"result": {"echo": params}}

    def ask(self, number: Any, params: Json) -> None:
        request = params.get("id", self.refresh_requests)
        self.refresh_requests += 1
        self.asked[request] = (number, params.get("times", 1))
        for _ in range(params.get("times", 1)):
            asked = {"reason": "unauthorized", "previousAccountId": params.get("account", "org-1")}
            self.send({"method": "account/chatgptAuthTokens/refresh", "id": request, "params": asked})

    def answered(self, message: Json) -> None:
        asked = self.asked.get(message["id"])
        if asked is None:
            self.send({"method": "x/answered", "params": message})
            return
        number, times = asked
        self.answers.append({name: message[name] for name in ("result", "error") if name in message})
        self.token = (message.get("result") or {}).get("accessToken", self.token)
        if len(self.answers) == times:
            self.send({"id": number, "result": {"answers": self.answers}})
            self.answers = []

    def send(self, message: Json) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Child(sys.argv[1]).run()
