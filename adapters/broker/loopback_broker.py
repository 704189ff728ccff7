"""Serves the OAuth endpoints of a broker on a loopback port, for the child of `authstate run`.

It is the small server of the browser login (network/loopback_server.py), so that `run` needs no web framework. The
service with everything else is in server.py.
"""

import socket
from collections.abc import Sequence
from http import HTTPStatus

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.http_errors import JSON_HEADERS, error_body, explain_host
from authstate.adapters.broker.oauth_endpoints import answer_oauth
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.broker.oauth_messages import LARGEST_BODY, answer_refused
from authstate.adapters.config.settings import REVOKE_PATH, TOKEN_PATH
from authstate.adapters.network.loopback_server import Limits, LoopbackServer, Request, Response


class LoopbackBroker:
    """Serves a broker to the programs of this machine.

    Args:
        broker: gives the tokens. It is not closed with this.
        listener: bound and listening; it is closed with this.
    """

    def __init__(self, broker: Broker, listener: socket.socket) -> None:
        self._broker = broker
        limits = Limits(body_bytes=LARGEST_BODY)
        self._server = LoopbackServer(listener, self._answer, limits, method="POST", refuse=_refuse)

    async def start(self) -> None:
        """Accept connections."""
        await self._server.start()

    async def close(self) -> None:
        """Release the port, and end every connection."""
        await self._server.aclose()

    async def _answer(self, request: Request) -> Response:
        if request.path not in (TOKEN_PATH, REVOKE_PATH):
            return _refuse(HTTPStatus.NOT_FOUND, ())
        try:
            answer = await answer_oauth(self._broker, request.path, request.body, request.content_type)
        except OAuthRefusal as refusal:
            answer = answer_refused(refusal, request.content_type)
        return Response(answer.status, answer.body, answer.headers)


def _refuse(status: HTTPStatus, hosts: Sequence[str]) -> Response:
    """Return the answer to a request that no endpoint takes."""
    said = explain_host(hosts) if status is HTTPStatus.MISDIRECTED_REQUEST else None
    return Response(status, error_body(status, said), JSON_HEADERS)
