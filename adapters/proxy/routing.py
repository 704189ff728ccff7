"""The two directions between a front-end and its child: which lines pass as they are, and who takes the others.

    front-end -> child    The engine takes account requests, and answers to requests of authstate. `initialize` passes
                          with the capability that lets the child take tokens.
    child -> front-end    The engine takes refresh requests, and answers to requests of authstate. Notifications about
                          the child's login are dropped: the front-end gets those about the person's. A turn that
                          failed for want of tokens says why.

All else passes byte for byte, in order. An answer passes only to a request that passed before it, and only once. A line
is parsed once: who takes it gets the parsed message.

The child must not get an account request, however it is written. So a line of the front-end that is not a JSON object,
or that two readers could read differently, is refused. codex reads an array as the members of a request.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.child.failed_turns import Explanation, FailureCause, failure_cause, replace_message
from authstate.adapters.child.running_turns import TURN_METHODS
from authstate.adapters.jsonrpc.framing import ABSENT, INVALID_REQUEST, Envelope, RpcError, read_line
from authstate.adapters.proxy.front_end import CHANGES, METHODS, REFUSED, RETIRED
from authstate.adapters.proxy.line_stream import LONGEST_HELD, LineStream, Pass, Take
from authstate.adapters.proxy.pending_requests import PendingRequests
from authstate.adapters.proxy.repeated_members import ESCAPE, repeated_member

_ABOUT_CHILDS_LOGIN = frozenset(
    {
        *(wire.LOGIN_COMPLETED, wire.ACCOUNT_UPDATED, "authStatusChange", "loginChatGptComplete"),
        wire.REFRESH_METHOD,  # without an id; with one it is a refresh request
    }
)
_ABOUT_ACCOUNTS = (b"account", b"authStatusChange", b"loginChatGptComplete", ESCAPE)
"""A line of the child that cannot be read passes without one of these: no reader can take it for an account message."""
_TOO_LONG = f"the line is longer than {LONGEST_HELD // (1024 * 1024)} MiB"


Warn = Callable[[str, str], None]
"""Logs a warning. Takes a stable code, and a message for a person that holds no secret."""


class InitializeObserver(Protocol):
    """Follows the handshake between the front-end and the child."""

    def on_initialize(self, params: Raw) -> None:
        """`initialize` is on its way to the child."""
        ...

    def on_initialize_answered(self, is_accepted: bool) -> None:
        """The child answered it."""
        ...


class FrontEndAccount(Protocol):
    """Takes the front-end's account requests: `AccountRequests`. `size` is that of the line, without its newline."""

    def ask(self, message: Envelope, size: int) -> None:
        """Take a request that changes nothing."""
        ...

    def change(self, message: Envelope, size: int) -> None:
        """Take a request that may change the login: what came before it must reach the child first."""
        ...

    def take_answer(self, message: Envelope, size: int) -> None:
        """Take an answer to a request of authstate."""
        ...

    def refuse(self, id_: Raw, error: RpcError) -> None:
        """Answer a request that must not reach the child with an error. An id that is none is answered as `null`."""
        ...


class ChildAccount(Protocol):
    """Takes what the child sends about its login: `WrappedAccount`. `size` is that of the line, without its newline."""

    def on_request(self, message: Envelope, size: int) -> None:
        """Take a refresh request."""
        ...

    def take_answer(self, message: Envelope, size: int) -> None:
        """Take an answer to a request of authstate."""
        ...

    def on_turn(self, method: str, params: Raw) -> None:
        """Take a notification that a turn started or ended. It passes, too."""
        ...

    def explain_failure(self, cause: FailureCause, params: Raw) -> Explanation | None:
        """Why a turn failed that the child reports with these params. None when the login is not the reason."""
        ...


class InitializeExchange:
    """The `initialize` that the child has not answered yet, if there is one."""

    def __init__(self, observer: InitializeObserver) -> None:
        self._observer = observer
        self._id: Any = None
        self.is_pending: bool = False
        """Whether it was sent, and is not answered."""
        self.is_done: bool = False
        """Whether the child accepted it: no line is part of a handshake any more."""
        self.result: Raw = Raw(b"null")
        """What the child answered. It is set before the observer is called."""

    @property
    def is_expected(self) -> bool:
        """Whether the next `initialize` of the front-end is the one that counts."""
        return not self.is_pending and not self.is_done

    def request_sent(self, message: Envelope) -> None:
        """The front-end sent it."""
        self._id = msgspec.json.decode(message.id)
        self.is_pending = True
        self._observer.on_initialize(message.params)

    def answer_passed(self, message: Envelope) -> None:
        """The child answers a request, perhaps this one."""
        if not self.is_pending or msgspec.json.decode(message.id) != self._id:
            return
        self.is_pending = False
        self.is_done = message.result is not ABSENT
        if self.is_done:
            self.result = Raw(bytes(message.result))
        self._observer.on_initialize_answered(self.is_done)


class Exchange(NamedTuple):
    """What both directions of a connection share."""

    initialize: InitializeExchange
    to_child: PendingRequests
    """Requests of the front-end that passed, which the child is to answer."""
    to_front_end: PendingRequests
    """Requests of the child that passed, which the front-end is to answer."""
    warn: Warn


class FromFrontEnd:
    """What the front-end sends.

    Args:
        account: takes what is about accounts.
        id_prefix: of authstate's requests to the front-end.
        let_pass: takes everything else, for the child.
        exchange: shared with the other direction.
    """

    def __init__(self, account: FrontEndAccount, id_prefix: str, let_pass: Pass, exchange: Exchange) -> None:
        self._account = account
        self._id_prefix = id_prefix
        self._let_pass = let_pass
        self._exchange = exchange
        self.line_stream: LineStream = LineStream(self._route, let_pass, self._refuse_long)

    def _route(self, line: bytes) -> Take | None:
        if line.isspace():
            return None
        try:
            message = read_line(line)
        except RpcError as error:
            return partial(self._account.refuse, ABSENT, error)
        if name := repeated_member(line):
            id_ = ABSENT if name == "id" else message.id  # of two ids, nobody knows which one the sender waits for
            return partial(self._refuse, id_, f"the message has two members `{name}`: send each one once")
        size = len(line) - 1
        if message.method is None:
            return self._take_answer(message, size)
        if message.method == "initialize" and message.id is not ABSENT and self._exchange.initialize.is_expected:
            return partial(self._initialize, message, line)
        if message.method in CHANGES:
            return partial(self._account.change, message, size)
        if message.method in METHODS or message.method in RETIRED or message.method in REFUSED:
            return partial(self._account.ask, message, size)
        if message.id is not ABSENT:
            self._exchange.to_child.add(message.id)
        return None

    def _take_answer(self, message: Envelope, size: int) -> Take | None:
        """Let an answer pass to the child only where the child asked."""
        if _has_prefix(message.id, self._id_prefix):
            return partial(self._account.take_answer, message, size)
        if message.id is not ABSENT and self._exchange.to_front_end.remove(message.id):
            return None
        why = "the front-end answered a request that it did not get: the answer was dropped"
        return partial(self._exchange.warn, "answer_dropped", why)

    def _initialize(self, message: Envelope, line: bytes) -> None:
        self._exchange.to_child.add(message.id)
        self._let_pass(with_experimental_api(line, message))
        self._exchange.initialize.request_sent(message)

    def _refuse(self, id_: Raw, why: str) -> None:
        self._account.refuse(id_, RpcError(INVALID_REQUEST, f"Invalid request: {why}"))

    def _refuse_long(self) -> None:
        self._refuse(ABSENT, _TOO_LONG)


class FromChild:
    """What the child sends.

    Args:
        account: takes what is about the child's login.
        id_prefix: of authstate's requests to the child.
        let_pass: takes everything else, for the front-end.
        exchange: shared with the other direction.
    """

    def __init__(self, account: ChildAccount, id_prefix: str, let_pass: Pass, exchange: Exchange) -> None:
        self._account = account
        self._id_prefix = id_prefix
        self._let_pass = let_pass
        self._exchange = exchange
        self.line_stream: LineStream = LineStream(self._route, let_pass, self._drop("line_dropped", _TOO_LONG))

    def _route(self, line: bytes) -> Take | None:
        try:
            message = read_line(line)
        except RpcError:
            if not any(word in line for word in _ABOUT_ACCOUNTS):
                return None
            return self._drop("line_dropped", "a line that may be about accounts cannot be read")
        if name := repeated_member(line):
            return self._drop("line_dropped", f"a message has two members `{name}`")
        size = len(line) - 1
        if message.method is None:
            return self._take_answer(message, size)
        if message.method == wire.REFRESH_METHOD and message.id is not ABSENT:
            return partial(self._account.on_request, message, size)
        if message.method in _ABOUT_CHILDS_LOGIN:
            return _do_nothing
        if message.id is not ABSENT:
            self._exchange.to_front_end.add(message.id)
        elif message.method in TURN_METHODS:
            self._account.on_turn(message.method, message.params)
        return self._explain(message, line)

    def _take_answer(self, message: Envelope, size: int) -> Take | None:
        """Let an answer pass to the front-end only where the front-end asked."""
        if _has_prefix(message.id, self._id_prefix):
            return partial(self._account.take_answer, message, size)
        if message.id is ABSENT or not self._exchange.to_child.remove(message.id):
            return self._drop("answer_dropped", "it answered a request that it did not get")
        self._exchange.initialize.answer_passed(message)
        return None

    def _explain(self, message: Envelope, line: bytes) -> Take | None:
        """Let a line pass, with the reason put in if it reports a turn that failed for want of tokens."""
        cause = failure_cause(message.method, line)
        explanation = self._account.explain_failure(cause, message.params) if cause is not None else None
        if cause is None or explanation is None:
            return None
        return partial(self._let_pass, replace_message(line, cause, explanation))

    def _drop(self, code: str, why: str) -> Take:
        return partial(self._exchange.warn, code, f"the front-end did not get a line of the app-server: {why}")


def _do_nothing() -> None:
    """Drop a line: the front-end gets notifications about the person's login, and not about the child's."""


def _has_prefix(id_: Raw, prefix: str) -> bool:
    return bytes(id_).startswith(b'"' + prefix.encode())


def with_experimental_api(line: bytes, message: Envelope) -> bytes:
    """Return `initialize` with the capability `experimentalApi`, without which 0.169.0 takes no tokens.

    A line that has it already, and one that the child will refuse, stays as it is.
    """
    try:
        params = msgspec.json.decode(message.params, type=dict[str, Raw])
        capabilities = msgspec.json.decode(params.get("capabilities", Raw(b"null")), type=dict[str, Raw] | None) or {}
        if bytes(capabilities.get("experimentalApi", b"")) == b"true":
            return line
        members = msgspec.json.decode(line, type=dict[str, Raw])
    except (ValueError, RecursionError):
        return line
    capabilities["experimentalApi"] = Raw(b"true")
    params["capabilities"] = Raw(msgspec.json.encode(capabilities))
    members["params"] = Raw(msgspec.json.encode(params))
    return msgspec.json.encode(members) + b"\n"
