"""The front-end's account requests, each at its turn among the other requests to the child."""

from functools import partial

from msgspec import Raw

from authstate.adapters.jsonrpc.framing import Envelope, RpcError
from authstate.adapters.jsonrpc.peer import Peer
from authstate.adapters.proxy.flow_control import Endpoint, Gate


class AccountRequests:
    """Gives account requests to the peer that answers them.

    Args:
        peer: of the front-end.
        gate: holds the other requests while the login changes.
        front_end: reads the answers.
    """

    def __init__(self, peer: Peer, gate: Gate, front_end: Endpoint) -> None:
        self._peer = peer
        self._gate = gate
        self._front_end = front_end

    def ask(self, message: Envelope, size: int) -> None:
        """Answer a request that changes nothing: at once, or after the changes that wait."""
        if self._gate.has_change:
            self.change(message, size)
        else:
            self._front_end.apply_backpressure()
            self._peer.message_received(message, size)

    def change(self, message: Envelope, size: int) -> None:
        """Answer a request that may change the login, once what came before it has passed to the child."""
        self._front_end.apply_backpressure()
        self._gate.change(partial(self._begin, message, size), size)

    def take_answer(self, message: Envelope, size: int) -> None:
        """Take an answer to a request of authstate."""
        self._peer.message_received(message, size)

    def refuse(self, id_: Raw, error: RpcError) -> None:
        """Answer a request that must not reach the child with an error. An id that is none is answered as `null`."""
        self._front_end.apply_backpressure()
        self._peer.refuse(id_, error)

    def _begin(self, message: Envelope, size: int) -> None:
        """Let nothing pass until it is answered, or runs beside others, as a login that a person completes."""
        self._gate.hold()
        self._peer.message_received(message, size)
        self._peer.when_unblocked(self._gate.release)
