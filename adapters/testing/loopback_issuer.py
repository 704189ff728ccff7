"""A real issuer and backend on loopback, in a process of its own. See `issuer_process` for what it serves."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

_OPENER = build_opener(ProxyHandler({}))


class LoopbackIssuer:
    """Starts the issuer process and steers it: `with LoopbackIssuer() as issuer: ...`, or `start` and `stop`.

    Its calls are synchronous and short; an event loop may make them. The process ends when this one does.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> "LoopbackIssuer":
        """Start the process and wait for its port.

        Raises:
            RuntimeError: it ended before it told its port.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "authstate.adapters.testing.issuer_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("COV_CORE_")},
            start_new_session=True,  # a Ctrl-C in the terminal is for who started it, and may still need it
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the loopback issuer ended before it told its port: see its error output above")
        self._port = json.loads(line)["port"]
        return self

    def stop(self) -> None:
        """End the process. Any number of times."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "LoopbackIssuer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The issuer, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def refresh_url(self) -> str:
        """The token endpoint."""
        return f"{self.url}/oauth/token"

    @property
    def revoke_url(self) -> str:
        """The revocation endpoint."""
        return f"{self.url}/oauth/revoke"

    @property
    def backend_url(self) -> str:
        """The value for `chatgpt_base_url`."""
        return f"{self.url}/backend-api"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that send a codex or authstate process here instead of to the real issuer."""
        return {
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": self.refresh_url,
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE": self.revoke_url,
            "CODEX_APP_SERVER_LOGIN_ISSUER": self.url,
            "AUTHSTATE_REDIRECT_PORTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def seed(self, **login: Any) -> dict[str, Any]:
        """Sign somebody in; returns `id_token`, `access_token`, `refresh_token` and `account_id`.

        Args:
            login: any of `account_id`, `email`, `user_id`, `plan`, `expires_in` (seconds, of the first access token)
                and `next_expires_in` (of those that refreshes bring).
        """
        answer: dict[str, str] = self._call("/control/seed", login)
        return answer

    def register_code(self, code: str, **login: Any) -> None:
        """Let an authorization code be exchanged once. `login` is that of `seed`, and `code_challenge` (S256) and
        `redirect_uri`, which are checked when given.
        """
        self._call("/control/code", {"code": code, **login})

    def let_in(self, **login: Any) -> None:
        """Whom the page at `/oauth/authorize` signs in from now on. `login` is that of `seed`."""
        self._call("/control/person", login)

    def approve_device(self, user_code: str, **login: Any) -> None:
        """Let the person with this device code finish signing in. `login` is that of `seed`."""
        self._call("/control/device", {"user_code": user_code, **login})

    def stats(self) -> dict[str, Any]:
        """What was asked so far; see `issuer_process`."""
        answer: dict[str, Any] = self._call("/control/stats", None)
        return answer

    def behave(self, endpoint: str = "refresh", **behaviour: Any) -> None:
        """Change how an endpoint (`authorize`, `refresh`, `exchange`, `revoke`, `backend`, `device`) answers; without a
        `mode` it is normal again. See `issuer_process` for the modes.
        """
        self._call("/control/behaviour", {endpoint: behaviour})

    def expire_access(self) -> None:
        """Answer 401 to every access token that was issued so far."""
        self._call("/control/expire-access", {})

    def revoke(self) -> None:
        """Sign everybody out: every refresh token is dead with `refresh_token_invalidated`."""
        self._call("/control/revoke", {})

    def _call(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        with _OPENER.open(request, timeout=10) as response:
            return json.loads(response.read())
