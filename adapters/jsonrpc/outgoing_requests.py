"""The requests of a peer to the other side, and their answers."""

import asyncio

from msgspec import Raw

from authstate.adapters.jsonrpc.batched_output import BatchedOutput
from authstate.adapters.jsonrpc.framing import NULL, Envelope, encode, remote_error
from authstate.engine.model.errors import AuthstateError


class PeerClosed(AuthstateError):
    """The connection ended before the answer came."""


class OutgoingRequests:
    """Sends requests and receives their answers.

    Args:
        output: writes the requests.
        id_prefix: see `Peer`.
    """

    def __init__(self, output: BatchedOutput, id_prefix: str) -> None:
        self._output = output
        self._answers: dict[bytes, asyncio.Future[Raw]] = {}
        self._id_format = b'"' + id_prefix.encode() + b'%d"' if id_prefix else b"%d"
        self._next_id = 0

    async def request(self, method: str, params: object) -> Raw:
        """See `Peer.request`."""
        if self._output.is_closed:
            raise PeerClosed("the connection is closed")
        id_ = self._id_format % self._next_id
        self._next_id += 1
        answer: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._answers[id_] = answer
        try:
            self._output.send(
                b'{"method":' + encode(method) + b',"id":' + id_ + b',"params":' + encode(params) + b"}\n"
            )
            return await answer
        finally:
            self._answers.pop(id_, None)

    def take_answer(self, message: Envelope) -> None:
        """Pass an answer to the request that waits for it. Drop an answer that no request waits for."""
        answer = self._answers.pop(bytes(message.id), None)
        if answer is None or answer.done():
            return
        if is_error(message):
            answer.set_exception(remote_error(message.error))
        else:
            answer.set_result(message.result)

    def fail(self) -> None:
        """Make each open request raise PeerClosed, because no more answers will come."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(PeerClosed("the other side went away before it answered"))


def is_error(message: Envelope) -> bool:
    """Return whether a message has an `error` that is not null."""
    return bytes(message.error) not in (b"", NULL)
