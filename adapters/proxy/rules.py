"""The two directions between a front-end and its child: which lines pass as they are, and who takes the others.

    front-end -> child    account requests go to our engine; so do answers to questions of ours. `initialize` passes,
                          with the capability that lets the child take tokens.
    child -> front-end    the question for new tokens is ours to answer; so are answers to requests of ours. What the
                          child tells of its login is dropped: the front-end hears of the person's. A turn that failed
                          for want of tokens says why.

All else passes byte for byte, in order. An answer passes only to a request that passed before it, and only once.

What a child would obey must not reach it, however it is written: a line of the front-end that is no JSON object, or of
which two readers could make two different things, is refused. codex reads an array as the members of a request.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.child.failed_turns import Explanation, FailureCause, failure_cause, replace_message
from authstate.adapters.child.running_turns import TURN_METHODS
from authstate.adapters.jsonrpc.framing import ABSENT, Envelope
from authstate.adapters.proxy.front_end import CHANGES, METHODS, REFUSED, RETIRED
from authstate.adapters.proxy.line_filter import ESCAPE, LONGEST_HELD, LineFilter, Pass, Take, envelope_of, is_ambiguous
from authstate.adapters.proxy.pending_requests import PendingRequests

_OF_THE_CHILDS_LOGIN = frozenset(
    {
        *(wire.LOGIN_COMPLETED, wire.ACCOUNT_UPDATED, "authStatusChange", "loginChatGptComplete"),
        wire.REFRESH_METHOD,  # with an id it is a question, and ours to answer
    }
)
_TELLING_OF_ACCOUNTS = (b"account", b"authStatusChange", b"loginChatGptComplete", ESCAPE)
"""A line of the child that cannot be read passes without one of these: no reader can take it for an account message."""
_TOO_LONG = f"the line is longer than {LONGEST_HELD // (1024 * 1024)} MiB"


class InitializeObserver(Protocol):
    """What hears of the handshake between the front-end and the child."""

    def on_initialize(self, params: Raw) -> None:
        """`initialize` is on its way to the child; nothing passes behind it until the door is open."""

    def answered(self, accepted: bool) -> None:
        """The child answered it."""


class AccountLines(Protocol):
    """What takes the front-end's lines about accounts."""

    def ask(self, line: bytes) -> None:
        """A request that changes nothing."""

    def change(self, line: bytes) -> None:
        """A request that may change the login: what came before it must reach the child first."""

    def answer(self, line: bytes) -> None:
        """An answer to a question of ours, or what is no message at all: it is refused."""

    def refuse(self, id_: Raw, why: str) -> None:
        """A request that must not reach the child is answered with -32600."""


class InitializeExchange:
    """The `initialize` that the child has not answered yet, if there is one."""

    def __init__(self, door: InitializeObserver) -> None:
        self._door = door
        self._id: Any = None
        self.is_open = False
        """It was sent, and is not answered."""
        self.is_over = False
        """The child took the front-end in: no line is part of a handshake any more."""
        self.result = Raw(b"null")
        """What the child answered, before the door hears that it did."""

    @property
    def is_awaited(self) -> bool:
        """The next `initialize` is the one that counts."""
        return not self.is_open and not self.is_over

    def sent(self, envelope: Envelope) -> None:
        """The front-end sends it."""
        self._id = msgspec.json.decode(envelope.id)
        self.is_open = True
        self._door.on_initialize(envelope.params)

    def seen(self, envelope: Envelope) -> None:
        """The child answers something; perhaps this."""
        if not self.is_open or envelope.id is ABSENT or msgspec.json.decode(envelope.id) != self._id:
            return
        self.is_open = False
        self.is_over = envelope.result is not ABSENT
        if self.is_over:
            self.result = Raw(bytes(envelope.result))
        self._door.answered(self.is_over)


class FromFrontEnd:
    """What the front-end sends.

    Args:
        accounts: takes what is about accounts.
        greeting: the handshake.
        id_prefix: of our questions to the front-end.
        let_pass: takes everything else, for the child.
        crowded: told before we answer, when the answer may have to wait for a front-end that reads.
        warn: called with a code and a message for the log.
    """

    def __init__(
        self,
        accounts: AccountLines,
        initialize: InitializeExchange,
        id_prefix: str,
        let_pass: Pass,
        crowded: Callable[[], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self._accounts = accounts
        self._initialize = initialize
        self._ours = id_prefix.encode()
        self._let_pass = let_pass
        self._crowded = crowded
        self._warn = warn
        self.requests = PendingRequests()
        """Those of the front-end, which the child is to answer."""
        self.questions = PendingRequests()
        """Those of the child that the front-end saw."""
        self.line_filter = LineFilter(self._route, let_pass, self._refuse_long)

    def _route(self, line: bytes) -> Take | None:
        if line.isspace():
            return None
        envelope = envelope_of(line)
        if envelope is None:
            return self._answered(self._accounts.answer, line)
        if is_ambiguous(line):
            return partial(self._refuse, envelope.id, "the message has two members of one name: send each one once")
        if envelope.method is None:
            return self._take_answer(envelope, line)
        if envelope.method == "initialize" and envelope.id is not ABSENT and self._initialize.is_awaited:
            return partial(self._introduce, envelope, line)
        if envelope.method in CHANGES:
            return self._answered(self._accounts.change, line)
        if envelope.method in METHODS or envelope.method in RETIRED or envelope.method in REFUSED:
            return self._answered(self._accounts.ask, line)
        if envelope.id is not ABSENT:
            self.requests.passed(envelope.id)
        return None

    def _take_answer(self, envelope: Envelope, line: bytes) -> Take | None:
        """An answer passes to the child only where the front-end was asked."""
        if _is_ours(envelope, self._ours):
            return partial(self._accounts.answer, line)
        if envelope.id is not ABSENT and self.questions.answered(envelope.id):
            return None
        why = "the front-end answered something that it was not asked: the child did not get it"
        return partial(self._warn, "answer_dropped", why)

    def _answered(self, by: Callable[[bytes], None], line: bytes) -> Take:
        """What has us answer a line."""

        def take() -> None:
            self._crowded()
            by(line)

        return take

    def _refuse(self, id_: Raw, why: str) -> None:
        self._crowded()
        self._accounts.refuse(id_, f"Invalid request: {why}")

    def _refuse_long(self) -> None:
        self._refuse(ABSENT, _TOO_LONG)

    def _introduce(self, envelope: Envelope, line: bytes) -> None:
        self.requests.passed(envelope.id)
        self._let_pass(with_experimental_api(line, envelope))
        self._initialize.sent(envelope)


class FromChild:
    """What the child sends.

    Args:
        take: takes a question for tokens, or an answer to a request of ours.
        greeting: the handshake.
        id_prefix: of our requests to the child.
        front_end: the other direction, which knows what the front-end asked.
        let_pass: takes everything else, for the front-end.
        why: explains a turn that failed, by the cause that the child names and the params of its notification.
        crowded: told before a question of the child is answered, whose answer may have to wait for a child that reads.
        heard: takes the notifications of turns that start and end, by method and params.
        warn: called with a code and a message for the log.
    """

    def __init__(
        self,
        take: Callable[[bytes], None],
        initialize: InitializeExchange,
        id_prefix: str,
        front_end: FromFrontEnd,
        let_pass: Pass,
        why: Callable[[FailureCause, Raw], Explanation | None],
        crowded: Callable[[], None],
        warn: Callable[[str, str], None],
        heard: Callable[[str, Raw], None] = lambda method, params: None,
    ) -> None:
        self._heard = heard
        self._take = take
        self._initialize = initialize
        self._ours = id_prefix.encode()
        self._front_end = front_end
        self._let_pass = let_pass
        self._why = why
        self._crowded = crowded
        self._warn = warn
        self.line_filter = LineFilter(self._route, let_pass, self._drop("line_dropped", _TOO_LONG))

    def _route(self, line: bytes) -> Take | None:
        envelope = envelope_of(line)
        if envelope is None:
            if not any(word in line for word in _TELLING_OF_ACCOUNTS):
                return None
            return self._drop("line_dropped", "a line that may be about accounts cannot be read")
        if is_ambiguous(line):
            return self._drop("line_dropped", "a message has two members of the same name")
        if envelope.method is None:
            return self._take_answer(envelope, line)
        if envelope.method == wire.REFRESH_METHOD and envelope.id is not ABSENT:
            return partial(self._ask, line)
        if envelope.method in _OF_THE_CHILDS_LOGIN:
            return _leave_out
        if envelope.id is not ABSENT:
            self._front_end.questions.passed(envelope.id)
        elif envelope.method in TURN_METHODS:
            self._heard(envelope.method, envelope.params)
        cause = failure_cause(envelope.method, line)
        why = self._why(cause, envelope.params) if cause is not None else None
        if cause is None or why is None:
            return None
        return partial(self._let_pass, replace_message(line, cause, why))

    def _ask(self, line: bytes) -> None:
        self._crowded()
        self._take(line)

    def _take_answer(self, envelope: Envelope, line: bytes) -> Take | None:
        """An answer passes to the front-end only where the child was asked."""
        if _is_ours(envelope, self._ours):
            return partial(self._take, line)
        if envelope.id is ABSENT or not self._front_end.requests.answered(envelope.id):
            return self._drop("answer_dropped", "it answered something that it was not asked")
        self._initialize.seen(envelope)
        return None

    def _drop(self, code: str, why: str) -> Take:
        return partial(self._warn, code, f"something of the child did not reach the front-end: {why}")


def _leave_out() -> None:
    """The front-end hears of the person's login, and not of the child's."""


def _is_ours(envelope: Envelope, prefix: bytes) -> bool:
    return bytes(envelope.id).startswith(b'"' + prefix)


def with_experimental_api(line: bytes, envelope: Envelope) -> bytes:
    """`initialize` with the capability `experimentalApi`, without which 0.169.0 takes no tokens.

    A line that has it already, and one that the child will refuse, stays as it is.
    """
    try:
        params = msgspec.json.decode(envelope.params, type=dict[str, Raw])
        capabilities = msgspec.json.decode(params.get("capabilities", Raw(b"null")), type=dict[str, Raw] | None) or {}
        if bytes(capabilities.get("experimentalApi", b"")) == b"true":
            return line
        message = msgspec.json.decode(line, type=dict[str, Raw])
    except (ValueError, RecursionError):
        return line
    capabilities["experimentalApi"] = Raw(b"true")
    params["capabilities"] = Raw(msgspec.json.encode(capabilities))
    message["params"] = Raw(msgspec.json.encode(params))
    return msgspec.json.encode(message) + b"\n"
