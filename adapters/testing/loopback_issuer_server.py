"""The loopback issuer and backend as a process: `python -m authstate.adapters.testing.loopback_issuer_server`.

Prints `{"port": N}` as its first line and ends when its standard input closes. It starts fast, because it imports only
the standard library.

Served
    GET  /oauth/authorize   a page on which a person agrees or declines; its buttons send POST
    POST /oauth/token       refresh_token (JSON; single use, rotating) and authorization_code (form)
    POST /oauth/revoke
    POST /api/accounts/deviceauth/usercode, /api/accounts/deviceauth/token
    GET  /api/accounts/v1/user-auth-credential/whoami   whose a personal access token is
    GET  /backend-api/wham/usage, /api/codex/usage, /backend-api/wham/accounts/check
    POST /backend-api/.../responses, /v1/responses   a model, see fake_model.py: with `"stream": true` it sends events
    POST /backend-api/.../chat/completions, /v1/chat/completions   the same model
    any  /backend-api/..., /v1/...   an echo: the account, the method and the number of bytes
Control (JSON)
    POST /control/seed, /control/token, /control/code, /control/device, /control/expire-access, /control/revoke,
         /control/behaviour
    POST /control/release   {"endpoint"}: lets requests go on that are held
    POST /control/reset     forgets everything, for the next test
    POST /control/transcript, /control/transcript/clear   {"lines"}: what was sent, see transcript.py
    POST /control/person    the person who agrees on the page from now on
    GET  /control/stats     refreshes_accepted, refreshes_refused, refreshes_failed (by behaviour), exchanges,
                            revocations, backend_accepted, backend_refused, requests {path: count},
                            refresh_tokens_sent [the first 12 hex digits of each one's SHA-256],
                            refreshes_accepted_at [this machine's monotonic clock in seconds, just before the answer],
                            model_served [the email of each request that the model answered]

Behaviour of an endpoint: `{"mode": ..., "status", "code", "retry_after", "delay": seconds, "times": requests,
"hold": "request", "answer" or "middle"}`. A request that is held is served, or is answered, or gets the second half of
its stream of events, once its endpoint is released.
    normal | status | error_200 | html | empty | huge | garbage (JSON of wrong types) | redirect
    hang     no answer for `delay` seconds (an hour), then the connection ends
    reset    the request is not served, and the connection is reset
    lost     the request is served, but the connection is reset instead of the answer
    partial  (refresh) a new refresh token without an access token
    bad_id_token (refresh) the new id token is not a JWT
    cut      half of the answer is sent, or half of the events of a stream, and the connection is reset
    refuse_midway (model) half of the events are sent, and an error event ends the stream: every access token is refused
             from then on. An answer that is not a stream is a 401
    expire_after (model) the request is served, and every access token is refused from then on
"""

import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from authstate.adapters.testing.loopback_issuer_state import (
    EVENTS,
    PAGE,
    REDIRECT,
    REFUSAL,
    Answer,
    IssuerState,
    Json,
    error,
)
from authstate.adapters.testing.loopback_transcript import Exchange, record

_SERVING = ("normal", "lost", "partial", "bad_id_token", "cut", "refuse_midway", "expire_after")
"""The modes in which an endpoint does what it is asked."""


class Handler(BaseHTTPRequestHandler):
    """One HTTP/1.1 connection, kept alive."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    current: IssuerState
    issuer: IssuerState
    """What was current when this request came."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def current_issuer(self) -> IssuerState:
        """Return the state that answers the next request of this connection."""
        return Handler.current

    def do_POST(self) -> None:
        self.issuer = self.current_issuer()
        path = urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self._parsed(data)
        with self.issuer.lock:
            if path == "/control/reset":
                self.issuer.end()
                Handler.current = IssuerState()
                self._send(200, {})
                return
            if path.startswith("/control/"):
                self._send(*self.issuer.control(path, body))
                return
            self.issuer.requests[path] += 1
            endpoint, serve = self._route(path, body, len(data))
            if endpoint == "refresh":
                self.issuer.sent.append(hashlib.sha256(str(body.get("refresh_token")).encode()).hexdigest()[:12])
            behaviour = self.issuer.behaviour(endpoint)
            releases = self.issuer.releases[endpoint]
            if behaviour.get("hold") == "request":
                self.issuer.wait_for_release(endpoint, releases)
        exchange = Exchange(endpoint, self.command, path, self.bearer, body, "normal", 0, {})
        self._answer(behaviour, releases, serve, exchange)

    def do_GET(self) -> None:
        self.do_POST()

    def do_PUT(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _parsed(self, data: bytes) -> Json:
        if "form" in self.headers.get("Content-Type", ""):
            return dict(parse_qsl(data.decode("utf-8", "replace")))
        try:
            body: object = json.loads(data)
        except ValueError:
            return {}
        return cast("Json", body) if isinstance(body, dict) else {}

    @property
    def bearer(self) -> str:
        """The token in the header `Authorization`. Empty if there is none."""
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _route(self, path: str, body: Json, size: int) -> tuple[str, Callable[[], Answer]]:
        issuer, bearer = self.issuer, self.bearer
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
        if path == "/api/accounts/v1/user-auth-credential/whoami":
            return "whoami", lambda: issuer.whoami(bearer)
        if path == "/api/accounts/deviceauth/token":
            return "device", lambda: issuer.device_poll(body)
        if path.startswith(("/backend-api/", "/v1/")) or path == "/api/codex/usage":
            account, method = self.headers.get("chatgpt-account-id"), self.command
            if path.endswith(("/responses", "/chat/completions")) and method == "POST":
                return "model", lambda: issuer.model(path, bearer, body)
            return "backend", lambda: issuer.backend(path, method, bearer, account, size)
        return "other", lambda: (404, error("not_found"))

    def _answer(self, behaviour: Json, releases: int, serve: Callable[[], Answer], exchange: Exchange) -> None:
        endpoint, mode = exchange.endpoint, behaviour.get("mode", "normal")
        if mode == "hang":
            time.sleep(behaviour.get("delay", 3600))
        elif behaviour.get("delay"):
            time.sleep(behaviour["delay"])
        serves = mode in _SERVING
        with self.issuer.lock:
            status, body = self._outcome(mode, serve) if serves else _outage(mode, behaviour)
            record(self.issuer.transcript, exchange._replace(mode=mode, status=status, answered=body))
            if endpoint == "refresh" and not serves:
                self.issuer.counts["refreshes_failed"] += 1
            if behaviour.get("hold") == "answer":
                self.issuer.wait_for_release(endpoint, releases)
        if mode in ("hang", "reset", "lost"):
            self._reset()
        elif serves:
            if EVENTS in body:
                self._stream(body, mode, lambda: self._wait_in_the_middle(behaviour, endpoint, releases))
            elif mode == "cut":
                self._send_half(status, body)
            else:
                self._send(status, body)
        else:
            self._misbehave(mode, behaviour)

    def _outcome(self, mode: str, serve: Callable[[], Answer]) -> Answer:
        """Do what was asked, and change the answer or the tokens as the mode says."""
        status, body = serve()
        if mode == "partial":
            body.pop("access_token", None)
        elif mode == "bad_id_token" and "id_token" in body:
            body["id_token"] = "no-jwt"
        is_refused = mode == "refuse_midway" and EVENTS not in body
        if is_refused or mode == "expire_after":
            self.issuer.access.clear()
        return (401, error("token_expired")) if is_refused else (status, body)

    def _wait_in_the_middle(self, behaviour: Json, endpoint: str, releases: int) -> None:
        if behaviour.get("hold") == "middle":
            with self.issuer.lock:
                self.issuer.wait_for_release(endpoint, releases)

    def _stream(self, body: Json, mode: str, wait: Callable[[], None]) -> None:
        """Send events one by one. Between the first half and the second, do what the mode says."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events, middle = body[EVENTS], len(body[EVENTS]) // 2
        self._send_chunks(events[:middle])
        wait()
        if mode == "cut":
            self._reset()
            return
        if mode == "refuse_midway":
            with self.issuer.lock:
                self.issuer.access.clear()
            self._send_chunks([body[REFUSAL]])
        else:
            self._send_chunks(events[middle:])
        self.wfile.write(b"0\r\n\r\n")

    def _send_chunks(self, events: list[str]) -> None:
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

    def _send_half(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self._reset()

    def _misbehave(self, mode: str, behaviour: Json) -> None:
        refusal = error(behaviour["code"]) if behaviour.get("code") else {}
        if mode == "status":
            self._send(behaviour.get("status", 503), refusal, retry_after=behaviour.get("retry_after"))
        elif mode == "error_200":
            self._send(200, refusal or error("server_error"))
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
            self._send(500, error(f"no such mode: {mode}"))

    def _send(self, status: int, body: Json, retry_after: object = None) -> None:
        if PAGE in body:
            self._send_bytes(status, body[PAGE].encode(), "text/html; charset=utf-8")
        elif REDIRECT in body:
            self._send_bytes(status, b"", location=body[REDIRECT])
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
        self.close_connection: bool = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _outage(mode: str, behaviour: Json) -> Answer:
    """Return what the transcript says of a request that is not served."""
    if mode != "status":
        return 0, {}
    return behaviour.get("status", 503), error(behaviour["code"]) if behaviour.get("code") else {}


class Server(ThreadingHTTPServer):
    """The server. It has a thread for each connection, and none of them outlives the process."""

    daemon_threads = True
    request_queue_size = 1024

    def shutdown_request(self, request: Any) -> None:
        # Close without `shutdown`, which would send a FIN before a reset.
        self.close_request(request)


def main() -> None:
    """Serve until standard input closes."""
    Handler.current = IssuerState()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    while sys.stdin.buffer.read(4096):
        pass


if __name__ == "__main__":
    main()
