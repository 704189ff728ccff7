"""The broker as an ASGI application, for the server of `authstate broker` and for a service that embeds it.

    app = create_broker_app(broker)
    service.mount("/authstate", app)        # Starlette or FastAPI: codex then asks /authstate/oauth/token

    POST /oauth/token     access tokens, for the handle of a lease or a refresh token of the vault
    POST /oauth/revoke    ends a lease, or signs out
    GET  /healthz         whether the broker works
    GET  /metrics         for Prometheus

The two OAuth endpoints are plain ASGI, without a framework, because every request of every codex goes through them. A
request of a page in a browser is refused. The JSON API of local_api.py is not part of this application.
"""

import asyncio
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.http_errors import JSON_HEADERS, error_body, explain_host, message_of
from authstate.adapters.broker.oauth_endpoints import answer_oauth
from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.oauth_messages import (
    LARGEST_BODY,
    OAuthAnswer,
    answer_refused,
)
from authstate.adapters.confidential import place_of
from authstate.adapters.config.settings import REVOKE_PATH, TOKEN_PATH

if TYPE_CHECKING:  # the packages of the extra `broker`: without them, this module and its names can still be imported
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from authstate.adapters.broker.metrics import BrokerMetrics

_MOST_DRAINED = 16 * 1024 * 1024  # bytes of a body that are read and dropped, so that the client reads the answer
_BODY_WITHIN = 10.0  # seconds


OnRefusal = Callable[[str, OAuthRefusal], None]
"""Called with the path of an OAuth endpoint, and what was refused there. It must not block."""


class _ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class BrokerApp:
    """The ASGI application.

    Args:
        broker: gives the tokens. It is not closed with this.
        metrics: counts the answers.
        routes: what is served beside the OAuth endpoints.
        hosts: the names in `Host` under which it may be reached, in lower case and without a port. None: any.
        on_refusal: called with the path and each refusal of an OAuth endpoint.

    Raises:
        ModuleNotFoundError: a package of the extra `broker` is not installed.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: "BrokerMetrics",
        routes: "Collection[BaseRoute]",
        hosts: Collection[str] | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._hosts = hosts
        self._on_refusal = on_refusal
        with _named_extra():
            from authstate.adapters.broker.public_routes import app_of_routes
        self._rest: ASGIApp = app_of_routes(routes)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        headers = _Headers(scope)
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        is_oauth = path in (TOKEN_PATH, REVOKE_PATH)
        if (status := self._fault_of(headers)) is not None:
            said = explain_host(headers.hosts) if status is HTTPStatus.MISDIRECTED_REQUEST else None
            await _send(send, self._refuse(path, headers, status, said))
        elif not is_oauth:
            await self._rest(scope, receive, send)
        elif scope["method"] != "POST":
            answer = self._refuse(path, headers, HTTPStatus.METHOD_NOT_ALLOWED, "this endpoint only takes POST")
            await _send(send, msgspec.structs.replace(answer, headers={**answer.headers, "Allow": "POST"}))
        else:
            await self._answer(path, headers, receive, send)

    def _fault_of(self, headers: "_Headers") -> HTTPStatus | None:
        """Refuse what a page in a browser sends, under this name or another one (DNS rebinding)."""
        if headers.origin is not None or headers.site not in (None, "none", "same-origin"):
            return HTTPStatus.FORBIDDEN
        if self._hosts is None:
            return None
        is_ours = len(headers.hosts) == 1 and _name_of(headers.hosts[0]) in self._hosts
        return None if is_ours else HTTPStatus.MISDIRECTED_REQUEST

    def _refuse(self, path: str, headers: "_Headers", status: HTTPStatus, said: str | None) -> OAuthAnswer:
        """Return the answer to a request that no endpoint takes. Those to the OAuth endpoints have OAuth's form."""
        if path not in (TOKEN_PATH, REVOKE_PATH):
            return OAuthAnswer(status, error_body(status, said), JSON_HEADERS)
        refusal = OAuthRefusal(OAuthError.INVALID_REQUEST, said or message_of(status))
        if self._on_refusal is not None:
            self._on_refusal(path, refusal)
        return msgspec.structs.replace(answer_refused(refusal, headers.content_type), status=status)

    async def _answer(self, path: str, headers: "_Headers", receive: "Receive", send: "Send") -> None:
        began = perf_counter()
        result = "granted" if path == TOKEN_PATH else "done"
        refused: OAuthRefusal | None = None
        try:
            body = await _read_body(receive, headers.length)
            answer = await answer_oauth(self._broker, path, body, headers.content_type)
        except _ClientGone:
            return
        except OAuthRefusal as refusal:
            refused = refusal
            answer = answer_refused(refusal, headers.content_type)
            if isinstance(refusal, _BodyRefused):
                answer = _closing(answer, refusal.status)
        except Exception as fault:  # a bug: the frames of its traceback hold tokens
            context = {"message": f"the broker failed to answer {path}: {place_of(fault)}"}
            asyncio.get_running_loop().call_exception_handler(context)
            refused = OAuthRefusal(OAuthError.SERVER_ERROR, "the broker failed: its log says more", retry_after=5.0)
            answer = answer_refused(refused, headers.content_type)
        if refused is not None:
            result = str(refused.error)
            if self._on_refusal is not None:
                self._on_refusal(path, refused)
        if path == TOKEN_PATH:
            self._metrics.count_grant(result, perf_counter() - began)
        else:
            self._metrics.count_revocation(result)
        await _send(send, answer)


class _BodyRefused(OAuthRefusal):
    """The body is too large, or takes too long."""

    def __init__(self, description: str, status: HTTPStatus) -> None:
        super().__init__(OAuthError.INVALID_REQUEST, description)
        self.status = status


def create_broker_app(
    broker: Broker,
    *,
    hosts: Collection[str] | None = None,
    metrics: "BrokerMetrics | None" = None,
    on_refusal: OnRefusal | None = None,
) -> "ASGIApp":
    """Create the application that serves a broker to its clients. It can be mounted below any path.

    The service that mounts it starts and closes the broker, and decides who can reach it: whoever has the handle of a
    lease gets access tokens. It serves no JSON API.

    Args:
        broker: gives the tokens.
        hosts: the names in `Host` under which it may be reached. None: any, for a service that checks them itself.
        metrics: by default new ones.
        on_refusal: called with the path and each refusal of an OAuth endpoint, for a log.

    Raises:
        ModuleNotFoundError: a package of the extra `broker` is not installed.
    """
    with _named_extra():
        from authstate.adapters.broker.metrics import BrokerMetrics
        from authstate.adapters.broker.public_routes import public_routes
    metrics = metrics or BrokerMetrics(broker)
    return BrokerApp(broker, metrics, public_routes(broker, metrics), hosts, on_refusal)


@contextmanager
def _named_extra() -> Generator[None, None, None]:
    """Surround imports of what needs the extra `broker`: say how to install it if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "of the extra").partition(".")[0]
        said = f"the application of the broker needs the package {package}: run `pip install 'authstate[broker]'`"
        raise ModuleNotFoundError(said, name=missing.name) from None


class _Headers:
    """The headers of a request that matter here."""

    __slots__ = ("content_type", "hosts", "length", "origin", "site")

    def __init__(self, scope: "Scope") -> None:
        self.content_type = ""
        self.hosts: list[str] = []
        self.length = 0
        self.origin: str | None = None
        self.site: str | None = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                self.content_type = value.decode("latin-1")
            elif name == b"host":
                self.hosts.append(value.decode("latin-1").strip().lower())
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else 0
            elif name == b"origin":
                self.origin = value.decode("latin-1")
            elif name == b"sec-fetch-site":
                self.site = value.decode("latin-1").strip().lower()


def _name_of(host: str) -> str:
    """Return a `Host` without its port. A tunnel or a port mapping changes the port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _read_body(receive: "Receive", length: int) -> bytes:
    """Read a body, and no more of it into memory than an endpoint accepts.

    Args:
        receive: of the request.
        length: what `Content-Length` says.

    Raises:
        _BodyRefused: it is larger, or takes too long.
        _ClientGone: it does not come whole.
    """
    if length > _MOST_DRAINED:
        raise _BodyRefused(_too_large(), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            while more and size <= _MOST_DRAINED:
                message = await receive()
                if message["type"] != "http.request":
                    raise _ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                more = message.get("more_body", False)
                if size <= LARGEST_BODY:
                    parts.append(part)
                else:
                    parts.clear()
    except TimeoutError:
        said = f"the request did not come whole within {_BODY_WITHIN:g} s"
        raise _BodyRefused(said, HTTPStatus.REQUEST_TIMEOUT) from None
    if size > LARGEST_BODY:
        raise _BodyRefused(_too_large(), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return b"".join(parts)


def _too_large() -> str:
    return f"the request is larger than {LARGEST_BODY} bytes, and no token is: sign in again"


def _closing(answer: OAuthAnswer, status: HTTPStatus) -> OAuthAnswer:
    """Return an answer after which the connection is closed, because not all of the request was read."""
    return msgspec.structs.replace(answer, status=status, headers={**answer.headers, "Connection": "close"})


async def _send(send: "Send", answer: OAuthAnswer) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
