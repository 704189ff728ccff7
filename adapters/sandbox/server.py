"""The HTTP server of a sandbox: the loopback issuer and backend, the control API, and a page that uses it."""

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from hashlib import sha256
from pathlib import Path
from re import DOTALL, findall
from types import TracebackType
from typing import Any, Final

from authstate.adapters.sandbox.control import Control, ControlError
from authstate.adapters.sandbox.issued_tokens import fingerprint
from authstate.adapters.sandbox.origin import refusal
from authstate.adapters.sandbox.pointing import Pointing
from authstate.adapters.sandbox.seen_requests import SeenRequest
from authstate.adapters.sandbox.state import SandboxAccount, SandboxState
from authstate.adapters.testing.loopback_issuer_server import Handler, Server
from authstate.adapters.testing.loopback_issuer_state import Answer, Json

ADDRESS: Final = "127.0.0.1"

_SELF: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_POLICY: Final = f"{_SELF}; form-action 'self' http://localhost:* http://127.0.0.1:*; img-src data:"
"""Of the sign-in pages: Chromium checks `form-action` for the redirect to the application, too."""


class SandboxServer(Server):
    """The server. Its state and its control API are shared by all connections."""

    state: SandboxState
    control: Control


class SandboxHandler(Handler):
    """One connection."""

    _seen: SeenRequest | None = None
    _policy = _POLICY

    def setup(self) -> None:
        """See `BaseRequestHandler`."""
        assert isinstance(self.server, SandboxServer)
        self._port = self.server.server_port
        self._state = self.server.state
        self._control = self.server.control
        super().setup()

    def current_issuer(self) -> SandboxState:
        """See `Handler.current_issuer`."""
        return self._state

    def do_POST(self) -> None:
        self._seen = None
        self._policy = _POLICY
        path = self.path.partition("?")[0]
        is_control = path == "/sandbox" or path.startswith("/sandbox/")
        refused = refusal(self._port, self.command, path, self.headers.items(), is_control=is_control)
        if refused is not None:
            self.close_connection = True  # the body was not read
            self._refuse(*refused)
        elif is_control:
            self._answer_control(path.removeprefix("/sandbox").removeprefix("/"))
        elif path == "/":
            html, self._policy = _page()
            self._send_bytes(200, html, "text/html; charset=utf-8")
        else:
            super().do_POST()

    def do_PATCH(self) -> None:
        self.do_POST()

    def do_OPTIONS(self) -> None:
        self.do_POST()

    def _answer_control(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self._control.answer(self.command, path, self.path.partition("?")[2], body)
        except ControlError as error:
            self._refuse(error.status, error.code, str(error))
        else:
            self._send_bytes(200, json.dumps(answer).encode())

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send_bytes(status, json.dumps({"error": {"code": code, "message": message}}).encode())

    def _route(self, path: str, body: Json, size: int) -> tuple[str, Callable[[], Answer]]:
        """See `Handler._route`. Notes the request."""
        state = self._state
        if path == "/codex/device":
            form = body
            serve = state.device_page if self.command == "GET" else lambda: state.answer_device(form)
            endpoint = "authorize"
        else:
            endpoint, serve = super()._route(path, body, size)
        token = self._token(endpoint, body)
        account = state.owner(token, body)
        self._seen = state.seen.begin(self.command, path[:200], endpoint, account, fingerprint(token))
        return endpoint, serve

    def _token(self, endpoint: str, body: Json) -> str:
        """Return the token that the request carries."""
        member = {"refresh": "refresh_token", "revoke": "token"}.get(endpoint)
        if member is not None:
            return str(body.get(member) or "")
        return self.bearer

    def send_response(self, code: int, message: str | None = None) -> None:
        """See `BaseHTTPRequestHandler`. Notes the status, before anybody can know it."""
        self._finish(code)
        super().send_response(code, message)

    def _reset(self) -> None:
        self._finish(None)
        super()._reset()

    def _finish(self, status: int | None) -> None:
        if self._seen is not None:
            with self._state.lock:
                self._state.seen.finish(self._seen, status)
            self._seen = None

    def end_headers(self) -> None:
        """See `BaseHTTPRequestHandler`. Adds the headers that protect the pages."""
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", self._policy),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        super().end_headers()


class RunningSandbox(AbstractContextManager["RunningSandbox"]):
    """A sandbox that serves in threads of this process, until the end of the `with` block.

    Args:
        home: the folder for the `CODEX_HOME` of the programs that use it.
        accounts: who can sign in. The first one is offered first. By default `ada` and `bob`.
        port: of 127.0.0.1. 0 is any free one.

    Raises:
        OSError: the port is not available.
    """

    def __init__(self, home: Path, accounts: Sequence[SandboxAccount] = (), port: int = 0) -> None:
        self._server = SandboxServer((ADDRESS, port), SandboxHandler)
        self.pointing: Pointing = Pointing(f"http://{ADDRESS}:{self._server.server_address[1]}", str(home))
        self.state: SandboxState = SandboxState(accounts)
        self._server.state = self.state
        self._server.control = Control(self.state, self.pointing)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "RunningSandbox":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.state.lock:
            self.state.clear_faults()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@cache
def _page() -> tuple[bytes, str]:
    """Return the page and its content security policy, which allows its own style and script, by their hashes."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    def hashes(tag: str) -> str:
        parts: list[Any] = findall(f"<{tag}>(.*?)</{tag}>", html, DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'" for part in parts)

    policy = f"{_SELF}; form-action 'none'; img-src data:; connect-src 'self'"
    return html.encode(), f"{policy}; style-src {hashes('style')}; script-src {hashes('script')}"
