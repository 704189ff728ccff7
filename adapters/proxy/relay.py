"""Everything between a front-end and its child but the pipes: two directions, two peers, the handshake, the gate.

    front-end  ->  line filter  ->  gate  ->  child        the engine takes account requests out of the line filter
    front-end  <-            line filter  <-  child        the engine takes refresh requests out of it

It is fed bytes and writes bytes; run.py opens and closes the pipes.
"""

import asyncio
import secrets
from collections.abc import Callable

from msgspec import Raw

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import LOG_DELAY, DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup
from authstate.adapters.child.own_login import ChildHasOwnLogin
from authstate.adapters.jsonrpc.peer import Writer
from authstate.adapters.proxy.account_requests import AccountRequests
from authstate.adapters.proxy.flow_control import Endpoint, Gate
from authstate.adapters.proxy.front_end import FrontEnd
from authstate.adapters.proxy.line_stream import LineStream
from authstate.adapters.proxy.pending_requests import PendingRequests
from authstate.adapters.proxy.routing import Exchange, FromChild, FromFrontEnd, InitializeExchange
from authstate.adapters.proxy.wrapped_account import ChildConnection, WrappedAccount

LAST_ANSWERS = 1.0  # seconds that open account requests get at the end of the front-end's input
LAST_GATE = 10.0  # seconds after that end in which the child may still be given a login


class Relay:
    """One front-end and one child. It is an `InitializeObserver` of their handshake.

    Args:
        setup: what was configured.
        log: gets every event.
        give_up: called with the reason when the child must not be given a login: by default a warning. Requests that
            wait for the login stay held.
    """

    def __init__(self, setup: AccountSetup, log: DeferredLog, give_up: Callable[[str], None] | None = None) -> None:
        self._log = log
        self._give_up = give_up or (lambda why: log.warn("own_login", why))
        self.front_end: Endpoint = Endpoint()
        self.child: Endpoint = Endpoint()
        self._gate = Gate(self.child.write, self.front_end.reads)
        to_child, to_front_end = (f"authstate-{secrets.token_hex(12)}-" for _ in range(2))
        self._front_end = FrontEnd(to_front_end, lambda client: self._make_account(setup, client, to_child))
        self._account = self._front_end.account
        self._initialize = InitializeExchange(self)
        self._from_front_end, self._from_child = self._make_directions(to_front_end, to_child)
        self._sync: asyncio.Task[None] | None = None

    @property
    def is_initialized(self) -> bool:
        """Whether the child accepted the front-end's `initialize`."""
        return self._front_end.client.is_initialized

    def open(self) -> None:
        """Open the account, while the child starts."""
        self._account.login.start()

    def connect(self, to_front_end: Writer, to_child: Writer) -> None:
        """Where bytes go. Call it before any come."""
        self.front_end.connect(to_front_end, self.child)
        self.child.connect(to_child, self.front_end)
        self._front_end.peer.connect(to_front_end)
        self._account.peer.connect(to_child)

    # Bytes

    def from_front_end(self, data: bytes) -> None:
        """The front-end sent this."""
        self._from_front_end.feed(data)

    def from_child(self, data: bytes) -> None:
        """The child sent this."""
        self._from_child.feed(data)

    async def front_end_ended(self) -> None:
        """The front-end sends no more. Returns once the child has what was sent, and its input may be closed.

        Account requests and refresh requests get a second for their answers, a login that is being given to the child
        gets ten.
        """
        self._from_front_end.finish()
        self._front_end.peer.eof_received()
        passed = asyncio.Event()
        self._gate.change(passed.set)
        timer = asyncio.get_running_loop().call_later(LAST_GATE, self._gate.force)
        await passed.wait()
        timer.cancel()
        await self._front_end.peer.drained(LAST_ANSWERS)
        await self._account.finish_requests(LAST_ANSWERS)

    def child_ended(self) -> None:
        """The child sends no more."""
        self._from_child.finish()
        self._account.peer.eof_received()

    def child_stopped_reading(self) -> None:
        """The child reads no more. What it still sends counts."""
        self._account.peer.eof_received()

    def front_end_stopped_reading(self) -> None:
        """Nobody reads what is written to the front-end."""
        self._front_end.peer.close()

    async def close(self) -> None:
        """Everything has ended: wait for a refresh token that is being spent, and answer what can be answered."""
        peer = self._front_end.peer
        peer.eof_received()
        await peer.drained(LOG_DELAY)
        await self._account.close()
        await peer.drained(LOG_DELAY)
        peer.close()
        if self._sync is not None:
            self._sync.cancel()

    # The handshake

    def on_initialize(self, params: Raw) -> None:
        """Hold what comes behind `initialize` until the child has its tokens. See `InitializeObserver`."""
        self._gate.hold()
        self._front_end.on_initialize(params)

    def on_initialize_answered(self, is_accepted: bool) -> None:
        """Give the child its tokens before anything else reaches it. See `InitializeObserver`."""
        self._front_end.on_initialize_answered(is_accepted)
        if is_accepted:
            self._sync = asyncio.create_task(self._start_sync())
        else:
            self._gate.release()

    async def _start_sync(self) -> None:
        try:
            await self._account.start_sync(self._initialize.result)
        except ChildHasOwnLogin as error:
            self._gate.hold()
            self._give_up(str(error))
        except Exception as error:
            self._log.warn("no_account", f"the app-server runs without a login: {error}")
        finally:
            self._gate.release()

    def _make_account(self, setup: AccountSetup, client: ConnectedClient, id_prefix: str) -> WrappedAccount:
        return WrappedAccount(setup, client, self._log, ChildConnection(id_prefix, self.child, self._gate))

    def _make_directions(self, to_front_end: str, to_child: str) -> tuple[LineStream, LineStream]:
        exchange = Exchange(self._initialize, PendingRequests(), PendingRequests(), WarnOnce(self._log))
        requests = AccountRequests(self._front_end.peer, self._gate, self.front_end)
        return (
            FromFrontEnd(requests, to_front_end, self._gate.let_pass, exchange).line_stream,
            FromChild(self._account, to_child, self.front_end.write, exchange).line_stream,
        )


class WarnOnce:
    """Logs each warning once: whoever sends lines that cause one may send many.

    Args:
        log: gets the warnings.
    """

    def __init__(self, log: DeferredLog) -> None:
        self._log = log
        self._messages: set[str] = set()

    def __call__(self, code: str, message: str) -> None:
        """See `Warn`."""
        if message not in self._messages:
            self._messages.add(message)
            self._log.warn(code, message)
