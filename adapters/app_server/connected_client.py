"""The client of a connection, as its `initialize` describes it, and the notifications that it gets."""

from authstate.adapters.app_server.wire import AccountUpdatedForReason, AccountUpdatedParams, InitializeParams
from authstate.adapters.jsonrpc.peer import Peer


class ConnectedClient:
    """One client.

    Args:
        peer: the connection to it.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.name: str | None = None
        """Who the client is; None before its `initialize`."""
        self.is_initialized = False
        """Whether its `initialize` was accepted. It gets no notifications before."""
        self.knows_reasons = False
        """Whether its release knows the `reason` of `account/updated`."""
        self._opted_out: frozenset[str] = frozenset()

    def describe(self, params: InitializeParams) -> None:
        """Remember what the client said of itself in `initialize`."""
        self.name = params.client_info.name
        if params.capabilities is not None:
            self._opted_out = frozenset(params.capabilities.opt_out_notification_methods or ())

    def notify(self, method: str, params: object) -> None:
        """Send a notification, unless the client opted out of it or is not initialized."""
        if not self.is_initialized or method in self._opted_out:
            return
        if self.knows_reasons and isinstance(params, AccountUpdatedParams):
            params = AccountUpdatedForReason(params.auth_mode, params.plan_type, getattr(params, "reason", None))
        self.peer.notify(method, params)
