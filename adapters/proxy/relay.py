"""Everything between a front-end and its child but the pipes: two directions, two peers, the handshake, the gate.

    front-end  ->  sieve  ->  gate  ->  child        account requests leave the sieve for our engine
    front-end  <-          sieve    <-  child        questions for tokens leave it for our engine

It is fed bytes and writes bytes; who opens and closes is in wrap.py.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from msgspec import Raw

from authstate.adapters.app_server.deferred_log import LOG_DELAY, DeferredLog
from authstate.adapters.child.own_login import ChildHasOwnLogin
from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Peer, RpcError, Writer
from authstate.adapters.proxy.flow import Gate, Throttle
from authstate.adapters.proxy.front_end import FrontEnd
from authstate.adapters.proxy.rules import FromChild, FromFrontEnd, InitializeExchange
from authstate.adapters.proxy.wrapped_account import WrappedAccount

LAST_ANSWERS = 1.0  # seconds that account requests which are under way get at the end of the front-end's input
LAST_GATE = 10.0  # seconds after that end in which a login may still be handed over
_FULL, _ANSWERS = "the other side is full", "answers are waiting"


class Side:
    """One of the two sides, as far as bytes go: a writer that may hold too much, and a reader that can be stopped."""

    def __init__(self) -> None:
        self.reads = Throttle()
        """Stops what comes from this side."""
        self._writer: Writer | None = None
        self._other: Side | None = None
        self._is_full = False

    def connect(self, writer: Writer, other: "Side") -> None:
        """Where bytes for this side go, and the side that they come from."""
        self._writer = writer
        self._other = other

    def write(self, data: bytes) -> None:
        """Send, or hold until it can be sent."""
        if self._writer is not None:
            self._writer.write(data)

    def apply_backpressure(self) -> None:
        """We are about to answer this side: where the answer would wait, it is to ask no more until there is room."""
        if self._is_full:
            self.reads.stop(_ANSWERS)

    def pause_writing(self) -> None:
        """The writer holds too much (see `Flow`)."""
        self._is_full = True
        if self._other is not None:
            self._other.reads.stop(_FULL)

    def resume_writing(self) -> None:
        """The writer has room again."""
        self._is_full = False
        self.reads.go(_ANSWERS)
        if self._other is not None:
            self._other.reads.go(_FULL)


class _AccountLines:
    """The front-end's lines about accounts, each at its turn. Those that change nothing wait only for changes."""

    def __init__(self, peer: Peer, gate: Gate) -> None:
        self._peer = peer
        self._gate = gate

    def ask(self, line: bytes) -> None:
        if self._gate.has_change:
            self.change(line)
        else:
            self.answer(line)

    def change(self, line: bytes) -> None:
        self._gate.change(partial(self._begin, line), len(line))

    def _begin(self, line: bytes) -> None:
        """Nothing passes behind it until it is answered, or runs beside others, as a login that a person completes."""
        self._gate.hold()
        self._peer.data_received(line)
        self._peer.when_unblocked(self._gate.release)

    def answer(self, line: bytes) -> None:
        self._peer.data_received(line)

    def refuse(self, id_: Raw, why: str) -> None:
        self._peer.refuse(id_, RpcError(INVALID_REQUEST, why))


class Relay:
    """One front-end and one child. It is a `InitializeObserver` for their handshake.

    Args:
        config, environment: what was configured.
        settings: members of `RefreshSettings` that differ from the default.
        log: hears every event.
        give_up: called when the child must not be handed a login, with the reason: by default a warning. What is held
            for it stays held.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        settings: Mapping[str, Any],
        log: DeferredLog,
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        self._log = log
        self._give_up = give_up or (lambda why: log.warn("own_login", why))
        self.front_end, self.child = Side(), Side()
        asks_child, asks_front_end = (f"authstate-{secrets.token_hex(12)}-" for _ in range(2))
        self._gate = Gate(self.child.write, self.front_end.reads)
        self._account = WrappedAccount(config, environment, settings, log, asks_child, self._gate)
        self._api = FrontEnd(asks_front_end, self._account)
        self._account.serve(self._api)
        initialize = self._initialize = InitializeExchange(self)
        from_front_end = FromFrontEnd(
            _AccountLines(self._api.peer, self._gate),
            initialize,
            asks_front_end,
            self._gate.let_pass,
            self.front_end.apply_backpressure,
            self._warn,
        )
        self._down = from_front_end.line_filter
        self._up = FromChild(
            self._account.peer.data_received,
            initialize,
            asks_child,
            from_front_end,
            self.front_end.write,
            self._account.why_failed,
            self.child.apply_backpressure,
            self._warn,
            self._account.heard,
        ).line_filter
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()

    @property
    def is_introduced(self) -> bool:
        """Whether the child took the front-end in."""
        return self._api.is_introduced

    def open(self) -> None:
        """Open the account: the child starts meanwhile."""
        self._api.opening.start().add_done_callback(_look_at)

    def connect(self, to_front_end: Writer, to_child: Writer) -> None:
        """Where bytes go. Call it before any come."""
        self.front_end.connect(to_front_end, self.child)
        self.child.connect(to_child, self.front_end)
        self._api.peer.connect(to_front_end)
        self._account.peer.connect(to_child)

    # Bytes

    def from_front_end(self, data: bytes) -> None:
        """The front-end sent this."""
        self._down.feed(data)

    def from_child(self, data: bytes) -> None:
        """The child sent this."""
        self._up.feed(data)

    async def front_end_ended(self) -> None:
        """The front-end sends no more. Returns once the child has what was sent, and may be told so.

        Account requests and questions of the child get a second for their answers, a login that is being handed over
        ten.
        """
        self._down.finish()
        self._api.peer.eof_received()
        passed = asyncio.Event()
        self._gate.change(passed.set)
        forced = asyncio.get_running_loop().call_later(LAST_GATE, self._gate.force)
        await passed.wait()
        forced.cancel()
        await self._api.peer.drained(LAST_ANSWERS)
        await self._account.last_answers(LAST_ANSWERS)

    def child_ended(self) -> None:
        """The child sends no more."""
        self._up.finish()
        self._account.peer.eof_received()

    def child_is_deaf(self) -> None:
        """The child reads no more. What it still says counts."""
        self._account.peer.eof_received()

    def front_end_is_deaf(self) -> None:
        """Nobody reads what we write to the front-end."""
        self._api.peer.close()

    async def close(self) -> None:
        """Everything has ended: wait for a refresh token that is being spent, and answer what can be answered."""
        self._api.peer.eof_received()
        await self._api.peer.drained(LOG_DELAY)
        await self._api.opening.closed()
        await self._account.close()
        await self._api.peer.drained(LOG_DELAY)
        self._api.peer.close()
        for task in self._tasks:
            task.cancel()

    # The handshake

    def on_initialize(self, params: Raw) -> None:
        """See `InitializeObserver`."""
        self._gate.hold()
        self._api.introduced(params)
        self._account.introduce(self._api.client_name)

    def answered(self, accepted: bool) -> None:
        """See `InitializeObserver`. The tokens are handed over before anything else reaches the child."""
        if accepted:
            self._api.accepted()
            self._spawn(self._hand_over())
        else:
            self._api.refused()
            self._gate.release()

    async def _hand_over(self) -> None:
        try:
            await self._api.opening.opened()
            await self._account.hand_over(self._initialize.result)
        except ChildHasOwnLogin as error:
            self._gate.hold()
            self._give_up(str(error))
        except Exception as error:
            self._log.warn("no_account", f"the child goes without a login: {error}")
        finally:
            self._gate.release()

    def _warn(self, code: str, message: str) -> None:
        """Warn once of each kind: whoever sends such lines may send many."""
        if message not in self._warned:
            self._warned.add(message)
            self._log.warn(code, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _look_at(opening: "asyncio.Future[Any]") -> None:
    """Take the outcome, so that nobody complains that nobody did: each request gets it."""
    if not opening.cancelled():
        opening.exception()
