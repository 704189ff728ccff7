"""Serves the OAuth endpoints of a broker on a loopback port, for the child of `authstate run`.

It is the small server of the browser login (network/loopback_server.py), so that `run` needs no web framework. The
service with everything else is in server.py.
"""

import socket

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.broker.oauth_messages import (
    LARGEST_BODY,
    OAuthAnswer,
    answer_refused,
    answer_revoked,
    answer_with,
    read_refresh,
    read_revocation,
)
from authstate.adapters.config.settings import REVOKE_PATH, TOKEN_PATH
from authstate.adapters.network.loopback_server import Limits, LoopbackServer, Request, Response


async def answer_oauth(broker: Broker, path: str, body: bytes, content_type: str) -> OAuthAnswer | None:
    """Answer a POST to an OAuth endpoint, also with a refusal.

    Args:
        broker: gives the tokens.
        path: `/oauth/token` or `/oauth/revoke`.
        body, content_type: of the request.

    Returns:
        The answer. None if there is no such endpoint.

    Cancelling it cancels no refresh.
    """
    try:
        if path == TOKEN_PATH:
            return answer_with(await broker.grants.refresh(read_refresh(body, content_type)), broker.clock.now())
        if path == REVOKE_PATH:
            await broker.grants.revoke(read_revocation(body, content_type))
            return answer_revoked()
    except OAuthRefusal as refusal:
        return answer_refused(refusal, content_type)
    return None


class LoopbackBroker:
    """Serves a broker to the programs of this machine.

    Args:
        broker: gives the tokens. It is not closed with this.
        listener: bound and listening; it is closed with this.
    """

    def __init__(self, broker: Broker, listener: socket.socket) -> None:
        self._broker = broker
        self._server = LoopbackServer(listener, self._answer, Limits(body_bytes=LARGEST_BODY), method="POST")

    async def start(self) -> None:
        """Accept connections."""
        await self._server.start()

    async def close(self) -> None:
        """Release the port, and end every connection."""
        await self._server.aclose()

    async def _answer(self, request: Request) -> Response:
        answer = await answer_oauth(self._broker, request.path, request.body, request.content_type)
        if answer is None:
            return Response(404, b"404 Not Found\n", {"Content-Type": "text/plain; charset=utf-8"})
        return Response(answer.status, answer.body, answer.headers)
