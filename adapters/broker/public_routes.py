"""What the broker's application serves beside its OAuth endpoints: health and metrics. It needs the extra `broker`."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.http_errors import JSON_HEADERS, error_body
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.engine.version import VERSION


def public_routes(broker: Broker, metrics: BrokerMetrics) -> list[BaseRoute]:
    """Return the routes of health and metrics."""

    async def health(request: Request) -> Response:
        found = await broker.accounts.health()
        if found.reason is None:
            return JSONResponse({"status": found.status, "version": VERSION})
        return JSONResponse({"status": found.status, "reason": found.reason}, 200 if found.serves else 503)

    async def show_metrics(request: Request) -> Response:
        text, content_type = await metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    return [Route("/healthz", health), Route("/metrics", show_metrics)]


def app_of_routes(routes: Collection[BaseRoute]) -> ASGIApp:
    """Return an application that serves these routes, and answers everything else with an error."""
    handlers: Any = {HTTPException: _answer_error, Exception: _answer_bug}
    return Starlette(routes=list(routes), exception_handlers=handlers)


async def _answer_error(request: Request, error: HTTPException) -> Response:
    """Answer what no route takes. The path may hold a handle, and is not repeated."""
    headers = {**JSON_HEADERS, **(error.headers or {})}
    said = None
    if error.status_code == HTTPStatus.NOT_FOUND and request.url.path.startswith("/v1"):
        said = "there is no such endpoint here: the broker serves the JSON API at its unix socket only"
    return Response(error_body(error.status_code, said), error.status_code, headers)


async def _answer_bug(request: Request, error: Exception) -> Response:
    """Answer when an endpoint failed. Starlette raises the error again, for the log."""
    return Response(error_body(HTTPStatus.INTERNAL_SERVER_ERROR), HTTPStatus.INTERNAL_SERVER_ERROR, JSON_HEADERS)
