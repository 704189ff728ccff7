"""A real issuer and backend on loopback, in its own process. See loopback_issuer_server.py for what it serves."""

import json
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.request import ProxyHandler, Request, build_opener

from authstate.adapters.io.child_environment import child_environment
from authstate.adapters.testing.transcript import Transcript

if TYPE_CHECKING:
    from authstate.adapters.testing.faults import LoopbackFaults

_OPENER = build_opener(ProxyHandler({}))
_ENDPOINTS: Final = ("authorize", "refresh", "exchange", "revoke", "device", "whoami", "backend", "model")


class LoopbackIssuer:
    """Starts and controls the issuer process: `with LoopbackIssuer() as issuer: ...`, or `start` and `stop`.

    Its calls are synchronous and short, so an event loop may make them. The process ends when this one does.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> "LoopbackIssuer":
        """Start the process and wait for its port.

        Raises:
            RuntimeError: the process ended before it printed its port.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "authstate.adapters.testing.loopback_issuer_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in child_environment().items() if not name.startswith("COV_CORE_")},
            start_new_session=True,  # Ctrl-C does not end it, because its starter may still need it
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the loopback issuer ended before it told its port: see its error output above")
        self._port = json.loads(line)["port"]
        return self

    def stop(self) -> None:
        """End the process. May be called more than once."""
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

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "LoopbackIssuer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the issuer, without a slash at the end."""
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
    def model_url(self) -> str:
        """The `base_url` of a client of the model, for the Responses API and Chat Completions."""
        return f"{self.url}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a codex or authstate process use this issuer instead of the real one."""
        return {
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": self.refresh_url,
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE": self.revoke_url,
            "CODEX_APP_SERVER_LOGIN_ISSUER": self.url,
            "CODEX_AUTHAPI_BASE_URL": f"{self.url}/api/accounts",
            "AUTHSTATE_REDIRECT_PORTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def seed(self, **login: Any) -> dict[str, Any]:
        """Sign somebody in. Returns `id_token`, `access_token`, `refresh_token` and `account_id`.

        Args:
            login: any of `account_id`, `email`, `user_id`, `plan`, `expires_in` (seconds, of the first access token)
                and `next_expires_in` (of those that refreshes bring).
        """
        answer: dict[str, str] = self._call("/control/seed", login)
        return answer

    def register_token(self, token: str, **login: Any) -> None:
        """Accept a personal access token, here and at the backend. `login` is as for `seed`."""
        self._call("/control/token", {"token": token, **login})

    def register_code(self, code: str, **login: Any) -> None:
        """Allow one exchange of an authorization code.

        `login` is as for `seed`. It may also have `code_challenge` (S256) and `redirect_uri`, which are then checked.
        """
        self._call("/control/code", {"code": code, **login})

    def set_person(self, **login: Any) -> None:
        """Set whom the page at `/oauth/authorize` signs in from now on. `login` is as for `seed`."""
        self._call("/control/person", login)

    def approve_device(self, user_code: str, **login: Any) -> None:
        """Approve the device login with this user code. `login` is as for `seed`."""
        self._call("/control/device", {"user_code": user_code, **login})

    def stats(self) -> dict[str, Any]:
        """Return counts of the requests so far; see loopback_issuer_server.py."""
        answer: dict[str, Any] = self._call("/control/stats", None)
        return answer

    @property
    def transcript(self) -> Transcript:
        """What was sent to the issuer and the backend so far: a snapshot, without secrets."""
        return Transcript(self._call("/control/transcript", {})["lines"])

    @property
    def faults(self) -> "LoopbackFaults":
        """Faults that a test orders, with the same API as in memory."""
        from authstate.adapters.testing.faults import LoopbackFaults

        return LoopbackFaults(self)

    def clear_transcript(self) -> None:
        """Forget what was sent so far. The tokens keep their names."""
        self._call("/control/transcript/clear", {})

    def reset(self) -> None:
        """Forget every login, token and request, and behave normally, as after the start. Held requests go on."""
        self._call("/control/reset", {})

    def behave(self, endpoint: str = "refresh", **behaviour: Any) -> None:
        """Set how an endpoint answers from now on. Without a `behaviour`, it answers normally again.

        Args:
            endpoint: `authorize`, `refresh`, `exchange`, `revoke`, `device`, `whoami`, `backend` or `model`.
            behaviour: a `mode`, and what it needs: see loopback_issuer_server.py. `times` is the number of requests.

        Raises:
            ValueError: there is no such endpoint, or `times` is not positive.
        """
        if endpoint not in _ENDPOINTS:
            raise ValueError(f"the issuer has no endpoint {endpoint!r}: use one of {', '.join(_ENDPOINTS)}")
        if behaviour.get("times", 1) < 1:
            raise ValueError(f"times must be at least 1, and is {behaviour['times']}")
        self._call("/control/behaviour", {endpoint: behaviour})

    def hold(
        self, endpoint: str = "refresh", what: Literal["request", "answer", "middle"] = "request", **behaviour: Any
    ) -> None:
        """Let requests of an endpoint that come from now on wait until `release`.

        Args:
            endpoint: as for `behave`.
            what: "request" to serve them afterwards, "answer" to serve them at once and keep the answer back.
                "middle" sends the first half of a stream of events and keeps the rest back.
            behaviour: as for `behave`, for example `times=1` to hold one request only.

        Raises:
            ValueError: as for `behave`, or `what` is something else.
        """
        if what not in ("request", "answer", "middle"):
            raise ValueError(f"what must be 'request', 'answer' or 'middle', and is {what!r}")
        self.behave(endpoint, hold=what, **behaviour)

    def release(self, endpoint: str = "refresh") -> None:
        """Let the requests go on that wait because of `hold`. The endpoint answers normally again."""
        self._call("/control/release", {"endpoint": endpoint})

    def expire_access(self) -> None:
        """Answer 401 to every access token issued so far."""
        self._call("/control/expire-access", {})

    def revoke(self, code: str = "refresh_token_invalidated") -> None:
        """Sign everybody out: refuse every refresh token that is accepted now, with this error code."""
        self._call("/control/revoke", {"code": code})

    def _call(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        with _OPENER.open(request, timeout=60) as response:
            return json.loads(response.read())
