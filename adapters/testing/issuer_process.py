"""The loopback issuer and backend as a process: `python -m authstate.adapters.testing.issuer_process`.

Prints `{"port": N}` as its first line and ends when its standard input closes. It starts fast, because it imports only
the standard library.

Served
    GET  /oauth/authorize   a page on which a person agrees or declines; its buttons send POST
    POST /oauth/token       refresh_token (JSON; single use, rotating) and authorization_code (form)
    POST /oauth/revoke
    POST /api/accounts/deviceauth/usercode, /api/accounts/deviceauth/token
    GET  /backend-api/wham/usage, /api/codex/usage, /backend-api/wham/accounts/check
    POST /backend-api/.../responses   a model that answers in server-sent events, see fake_model.py
    any  /backend-api/...   an echo: the account, the method and the number of bytes
Control (JSON)
    POST /control/seed, /control/code, /control/device, /control/expire-access, /control/revoke, /control/behaviour
    POST /control/person    the person who agrees on the page from now on
    GET  /control/stats     refreshes_accepted, refreshes_refused, refreshes_failed (by behaviour), exchanges,
                            revocations, backend_accepted, backend_refused, requests {path: count},
                            refresh_tokens_sent [the first 12 hex digits of each one's SHA-256],
                            refreshes_accepted_at [this machine's monotonic clock in seconds, just before the answer]

Behaviour of an endpoint: `{"mode": ..., "status", "code", "retry_after", "delay": seconds, "times": requests}`
    normal | status | error_200 | html | empty | huge | garbage (JSON of wrong types) | redirect
    hang     no answer for `delay` seconds (an hour), then the connection ends
    reset    the request is not served, and the connection is reset
    lost     the request is served, but the connection is reset instead of the answer
    partial  (refresh) a new refresh token without an access token
    bad_id_token (refresh) the new id token is not a JWT
"""

import hashlib
import json
import secrets
import socket
import struct
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from authstate.adapters.testing import consent_page, fake_model
from authstate.adapters.testing.jwt import account_claims, make_jwt

Json = dict[str, Any]
Answer = tuple[int, Json]
_EVENTS = "server-sent events"  # member of an answer: its body, a stream of events
_PAGE = "page"  # ... its body, as HTML
_REDIRECT = "redirect"  # ... the URL that it redirects to


class IssuerState:
    """The state of the process. Every method is called with the lock held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.logins: dict[str, Json] = {}
        self.dead: dict[str, str] = {}
        self.access: dict[str, Json] = {}
        self.codes: dict[str, Json] = {}
        self.devices: dict[str, Json] = {}
        self.person = _login({})
        self.behaviours: dict[str, Json] = {}
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.sent: list[str] = []
        self.accepted_at: list[float] = []

    def issue(self, login: Json, expires_in: float | None) -> Json:
        """Issue new tokens for a login. Their refresh token is valid from now on."""
        names = (login.get("email"), login.get("account_id"), login.get("user_id"), login.get("plan"))
        claims = account_claims(*names)
        expiry = {} if expires_in is None else {"exp": int(time.time() + expires_in)}
        tokens = {
            "id_token": make_jwt(**claims, jti=secrets.token_hex(8)),
            "access_token": make_jwt(**claims, jti=secrets.token_hex(8), **expiry),
            "refresh_token": "rt_" + secrets.token_urlsafe(32),
        }
        self.logins[tokens["refresh_token"]] = login
        self.access[tokens["access_token"]] = {**login, "exp": expiry.get("exp")}
        return tokens

    def refresh(self, body: Json) -> Answer:
        token = body.get("refresh_token")
        token = token if isinstance(token, str) else ""
        login = self.logins.pop(token, None)
        if login is None:
            self.counts["refreshes_refused"] += 1
            return 401, _error(self.dead.get(token, "refresh_token_unknown"))
        self.dead[token] = "refresh_token_reused"
        self.counts["refreshes_accepted"] += 1
        answer = self.issue(login, login.get("next_expires_in", 3600))
        self.accepted_at.append(time.monotonic())
        return 200, answer

    def authorize(self, asked: Json) -> Answer:
        fault = consent_page.fault(asked)
        return (400, _error(fault)) if fault else (200, {_PAGE: consent_page.page(asked, self.person["email"])})

    def consent(self, form: Json) -> Answer:
        if form.get("answer") != "agree":
            return 303, {_REDIRECT: consent_page.redirect_url(form, **consent_page.DECLINED)}
        code = "ac_" + secrets.token_urlsafe(16)
        bound = {name: form.get(name) for name in ("code_challenge", "redirect_uri")}
        self.codes[code] = {**self.person, **bound}
        return 303, {_REDIRECT: consent_page.redirect_url(form, code=code)}

    def exchange(self, form: Json) -> Answer:
        grant = self.codes.pop(form.get("code", ""), None)
        if grant is None or not _matches(grant, form):
            return 400, {"error": "invalid_grant", "error_description": "the code is unknown, used or not yours"}
        self.counts["exchanges"] += 1
        return 200, self.issue(grant, grant.get("expires_in", 3600))

    def revoke_one(self, body: Json) -> Answer:
        self.counts["revocations"] += 1
        token = body.get("token")
        if isinstance(token, str) and self.logins.pop(token, None) is not None:
            self.dead[token] = "refresh_token_invalidated"
        return 200, {}

    def device_start(self) -> Answer:
        number = len(self.devices) + 1
        device: Json = {"device_auth_id": f"device-{number}", "user_code": f"ABCD-{number:04}", "login": None}
        self.devices[device["device_auth_id"]] = device
        return 200, {**{name: device[name] for name in ("device_auth_id", "user_code")}, "interval": "1"}

    def device_poll(self, body: Json) -> Answer:
        device = self.devices.get(str(body.get("device_auth_id")))
        if device is None or device["user_code"] != body.get("user_code") or device["login"] is None:
            return 403, _error("deviceauth_authorization_pending")
        verifier = secrets.token_urlsafe(32)
        code, challenge = "ac_" + secrets.token_urlsafe(16), _challenge(verifier)
        self.codes[code] = {**device["login"], "code_challenge": challenge}
        return 200, {"authorization_code": code, "code_challenge": challenge, "code_verifier": verifier}

    def backend(self, path: str, method: str, bearer: str, account: str | None, size: int) -> Answer:
        login = self.access.get(bearer)
        if login is None or (login["exp"] is not None and login["exp"] <= time.time()):
            self.counts["backend_refused"] += 1
            return 401, _error("token_expired")
        self.counts["backend_accepted"] += 1
        if path.endswith("/usage"):
            return 200, _usage(login.get("plan"))
        if path.endswith("/wham/accounts/check"):
            row = {"id": login.get("account_id"), "account_routing_override": "NO_CONSTRAINT"}
            return 200, {"accounts": [{**row, "workspace_backend_origin": "https://backend.invalid"}]}
        return 200, {"method": method, "path": path, "bytes": size, "account_id": account, "email": login.get("email")}

    def model(self, path: str, bearer: str, body: Json) -> Answer:
        status, refusal = self.backend(path, "POST", bearer, None, 0)
        if status != 200:
            return status, refusal
        events = fake_model.answer(body, self.requests[path])
        if fake_model.wants_to_expire(body):
            self.access.clear()
        return 200, {_EVENTS: events}

    def control(self, path: str, body: Json) -> Answer:
        if path == "/control/stats":
            names = ("refreshes_accepted", "refreshes_refused", "refreshes_failed", "exchanges", "revocations")
            counts = {name: self.counts[name] for name in (*names, "backend_accepted", "backend_refused")}
            lists = {"refresh_tokens_sent": self.sent, "refreshes_accepted_at": self.accepted_at}
            return 200, {**counts, "requests": dict(self.requests), **lists}
        if path == "/control/seed":
            login = _login(body)
            return 200, {**self.issue(login, login.get("expires_in", 3600)), "account_id": login["account_id"]}
        if path == "/control/code":
            self.codes[body["code"]] = _login(body)
        elif path == "/control/person":
            self.person = _login(body)
        elif path == "/control/device":
            for device in self.devices.values():
                if device["user_code"] == body["user_code"]:
                    device["login"] = _login(body)
        elif path == "/control/expire-access":
            self.access.clear()
        elif path == "/control/revoke":
            self.dead |= dict.fromkeys(self.logins, "refresh_token_invalidated")
            self.logins.clear()
        elif path == "/control/behaviour":
            self.behaviours |= body
        else:
            return 404, _error("no_such_control")
        return 200, {}

    def behaviour(self, endpoint: str) -> Json:
        """Return how the endpoint answers this request."""
        behaviour = self.behaviours.get(endpoint) or {"mode": "normal"}
        if "times" in behaviour:
            behaviour["times"] -= 1
            if behaviour["times"] <= 0:
                self.behaviours.pop(endpoint)
        return behaviour


class Handler(BaseHTTPRequestHandler):
    """One HTTP/1.1 connection, kept alive."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    issuer: IssuerState

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self._parsed(data)
        with self.issuer.lock:
            if path.startswith("/control/"):
                self._send(*self.issuer.control(path, body))
                return
            self.issuer.requests[path] += 1
            endpoint, serve = self._route(path, body, len(data))
            if endpoint == "refresh":
                self.issuer.sent.append(hashlib.sha256(str(body.get("refresh_token")).encode()).hexdigest()[:12])
            behaviour = self.issuer.behaviour(endpoint)
        self._answer(behaviour, endpoint, serve)

    do_GET = do_PUT = do_DELETE = do_POST

    def _parsed(self, data: bytes) -> Json:
        if "form" in self.headers.get("Content-Type", ""):
            return dict(parse_qsl(data.decode("utf-8", "replace")))
        try:
            body: object = json.loads(data)
        except ValueError:
            return {}
        return cast("Json", body) if isinstance(body, dict) else {}

    def _route(self, path: str, body: Json, size: int) -> tuple[str, Callable[[], Answer]]:
        issuer = self.issuer
        if path == "/oauth/authorize":
            if self.command == "POST":
                return "authorize", lambda: issuer.consent(body)
            return "authorize", lambda: issuer.authorize(dict(parse_qsl(urlsplit(self.path).query)))
        if path == "/oauth/token":
            if body.get("grant_type") == "refresh_token":
                return "refresh", lambda: issuer.refresh(body)
            return "exchange", lambda: issuer.exchange(body)
        if path == "/oauth/revoke":
            return "revoke", lambda: issuer.revoke_one(body)
        if path == "/api/accounts/deviceauth/usercode":
            return "device", issuer.device_start
        if path == "/api/accounts/deviceauth/token":
            return "device", lambda: issuer.device_poll(body)
        if path.startswith("/backend-api/") or path == "/api/codex/usage":
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            account, method = self.headers.get("chatgpt-account-id"), self.command
            if path.endswith("/responses") and method == "POST":
                return "model", lambda: issuer.model(path, bearer, body)
            return "backend", lambda: issuer.backend(path, method, bearer, account, size)
        return "other", lambda: (404, _error("not_found"))

    def _answer(self, behaviour: Json, endpoint: str, serve: Callable[[], Answer]) -> None:
        mode = behaviour.get("mode", "normal")
        if mode == "hang":
            time.sleep(behaviour.get("delay", 3600))
        elif behaviour.get("delay"):
            time.sleep(behaviour["delay"])
        serves = mode in ("normal", "lost", "partial", "bad_id_token")
        with self.issuer.lock:
            status, body = serve() if serves else (0, {})
            if endpoint == "refresh" and not serves:
                self.issuer.counts["refreshes_failed"] += 1
        if mode in ("hang", "reset", "lost"):
            self._reset()
        elif serves:
            if mode == "partial":
                body.pop("access_token", None)
            elif mode == "bad_id_token" and "id_token" in body:
                body["id_token"] = "no-jwt"
            self._send(status, body)
        else:
            self._misbehave(mode, behaviour)

    def _misbehave(self, mode: str, behaviour: Json) -> None:
        error = _error(behaviour["code"]) if behaviour.get("code") else {}
        if mode == "status":
            self._send(behaviour.get("status", 503), error, retry_after=behaviour.get("retry_after"))
        elif mode == "error_200":
            self._send(200, error or _error("server_error"))
        elif mode == "html":
            page = b"<!doctype html><title>Sign in to this network</title>"
            self._send_bytes(behaviour.get("status", 200), page, "text/html")
        elif mode == "empty":
            self._send_bytes(behaviour.get("status", 200), b"")
        elif mode == "huge":
            self._send_bytes(200, b'{"padding": "' + b"x" * 3_000_000 + b'"}')
        elif mode == "garbage":
            self._send_bytes(behaviour.get("status", 200), b'{"access_token": 7, "error": [["a"]], "code": {}}')
        elif mode == "redirect":
            self._send_bytes(307, b"", location="/oauth/elsewhere")
        else:
            self._send(500, _error(f"no such mode: {mode}"))

    def _send(self, status: int, body: Json, retry_after: object = None) -> None:
        if _EVENTS in body:
            self._send_bytes(status, body[_EVENTS].encode(), "text/event-stream")
        elif _PAGE in body:
            self._send_bytes(status, body[_PAGE].encode(), "text/html; charset=utf-8")
        elif _REDIRECT in body:
            self._send_bytes(status, b"", location=body[_REDIRECT])
        else:
            self._send_bytes(status, json.dumps(body).encode(), retry_after=retry_after)

    def _send_bytes(self, status: int, body: bytes, kind: str = "application/json", **headers: object) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-").title(), str(value))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Server(ThreadingHTTPServer):
    """The server. It has a thread for each connection, and none of them outlives the process."""

    daemon_threads = True
    request_queue_size = 1024

    def shutdown_request(self, request: Any) -> None:
        # Close without `shutdown`, which would send a FIN before a reset.
        self.close_request(request)


def _login(body: Json) -> Json:
    return {"account_id": "org-1", "email": "person@example.com", "user_id": "user-1", "plan": "plus", **body}


def _error(code: str) -> Json:
    return {"error": {"code": code, "message": "refused by the loopback issuer"}}


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _matches(grant: Json, form: Json) -> bool:
    if grant.get("redirect_uri") not in (None, form.get("redirect_uri")):
        return False
    return grant.get("code_challenge") in (None, _challenge(form.get("code_verifier", "")))


_RESET_AT = 1_900_000_000


def _usage(plan: object) -> Json:
    def window(percent: float, minutes: int) -> Json:
        reset = {"reset_after_seconds": max(0, _RESET_AT - int(time.time())), "reset_at": _RESET_AT}
        return {"used_percent": percent, "limit_window_seconds": minutes * 60, **reset}

    def limit(primary: Json, secondary: Json | None) -> Json:
        # codex refuses an answer without `allowed`, `limit_reached` or `reset_after_seconds`.
        return {"allowed": True, "limit_reached": False, "primary_window": primary, "secondary_window": secondary}

    other = {"limit_name": "codex_other", "metered_feature": "codex_other", "rate_limit": limit(window(88, 30), None)}
    return {
        "plan_type": plan,
        "rate_limit": limit(window(42, 300), window(5, 10080)),
        "credits": {"has_credits": True, "unlimited": False, "balance": "17.5"},
        "additional_rate_limits": [other],
    }


def main() -> None:
    """Serve until standard input closes."""
    Handler.issuer = IssuerState()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    while sys.stdin.buffer.read(4096):
        pass


if __name__ == "__main__":
    main()
