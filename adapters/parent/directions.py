"""The two directions between a front-end and its child: which lines pass as they are, and who takes the others.

    front-end -> child    account requests go to our engine; so do answers to questions of ours. `initialize` passes,
                          with the capability that lets the child take tokens.
    child -> front-end    the question for new tokens is ours to answer; so are answers to requests of ours. What the
                          child tells of its login is dropped: the front-end hears of the person's. A turn that failed
                          for want of tokens says why.

All else passes byte for byte, in order.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from authstate.adapters.app_server import messages as wire
from authstate.adapters.jsonrpc_lines import ABSENT, Envelope
from authstate.adapters.parent.failed_turns import TELLING, explained, is_failed_turn
from authstate.adapters.parent.front_end import CHANGES, METHODS, REFUSED, RETIRED
from authstate.adapters.parent.questions import OF_TURNS
from authstate.adapters.parent.routing import Pass, Sieve, envelope_of, method_in

_FROM_FRONT_END = (b"initialize", b"account/", b"accountSession/", b"getAuthStatus", b"ChatGpt", b"loginApiKey")
_FROM_CHILD = (
    *(b"account/", b"authStatusChange", b"loginChatGptComplete", TELLING),
    *(method.encode() for method in sorted(OF_TURNS)),
)
_OF_THE_CHILDS_LOGIN = frozenset(
    {wire.LOGIN_COMPLETED, wire.ACCOUNT_UPDATED, "authStatusChange", "loginChatGptComplete"}
)


class Door(Protocol):
    """What hears of the handshake between the front-end and the child."""

    def knocked(self, params: Raw) -> None:
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
        """An answer to a question of ours."""


class Greeting:
    """The `initialize` that the child has not answered yet, if there is one."""

    def __init__(self, door: Door) -> None:
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
        self._door.knocked(envelope.params)

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
        crowded: told before an account request is answered, whose answer may have to wait for a front-end that reads.
    """

    def __init__(
        self,
        accounts: AccountLines,
        greeting: Greeting,
        id_prefix: str,
        let_pass: Pass,
        crowded: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._greeting = greeting
        self._ours = id_prefix.encode()
        self._let_pass = let_pass
        self._crowded = crowded
        self.sieve = Sieve((*_FROM_FRONT_END, self._ours), self._route, let_pass, self._too_long)

    def _route(self, line: bytes) -> bool:
        envelope = envelope_of(line)
        if envelope is None:
            return False
        if envelope.method == "initialize" and envelope.id is not ABSENT and self._greeting.is_awaited:
            return self._introduce(envelope, line)
        if envelope.method in METHODS or envelope.method in RETIRED or envelope.method in REFUSED:
            self._crowded()
            if envelope.method in CHANGES:
                self._accounts.change(line)
            else:
                self._accounts.ask(line)
            return True
        if envelope.method is None and _is_ours(envelope, self._ours):
            self._accounts.answer(line)
            return True
        return False

    def _too_long(self, beginning: bytes) -> bool:
        """The engine refuses it: the child would take it for a login of its own."""
        if method_in(beginning) not in METHODS | RETIRED.keys() | REFUSED.keys():
            return False
        self._crowded()
        self._accounts.ask(beginning + b"\n")
        return True

    def _introduce(self, envelope: Envelope, line: bytes) -> bool:
        self._let_pass(with_experimental_api(line, envelope))
        self._greeting.sent(envelope)
        return True


class FromChild:
    """What the child sends.

    Args:
        take: takes a question for tokens, or an answer to a request of ours.
        greeting: the handshake.
        id_prefix: of our requests to the child.
        let_pass: takes everything else, for the front-end.
        why: why the last question for tokens was refused, if it was.
        crowded: told before a question of the child is answered, whose answer may have to wait for a child that reads.
        needs_login: whether only a new sign-in helps against that refusal.
        heard: takes the notifications of turns that start and end, by method and params.
    """

    def __init__(
        self,
        take: Callable[[bytes], None],
        greeting: Greeting,
        id_prefix: str,
        let_pass: Pass,
        why: Callable[[], str | None],
        crowded: Callable[[], None],
        needs_login: Callable[[], bool] = lambda: False,
        heard: Callable[[str, Raw], None] = lambda method, params: None,
    ) -> None:
        self._needs_login = needs_login
        self._heard = heard
        self._take = take
        self._greeting = greeting
        self._ours = id_prefix.encode()
        self._let_pass = let_pass
        self._why = why
        self._crowded = crowded
        self.sieve = Sieve((*_FROM_CHILD, self._ours), self._route, let_pass, lambda beginning: False)
        self.sieve.look_at_all = True  # an answer to `initialize` holds no word that tells it

    def _route(self, line: bytes) -> bool:
        envelope = envelope_of(line)
        if envelope is None:
            return False
        if envelope.method is None:
            if _is_ours(envelope, self._ours):
                self._take(line)
                return True
            self._greeting.seen(envelope)
            self.sieve.look_at_all = not self._greeting.is_over
            return False
        if envelope.method == wire.REFRESH_METHOD and envelope.id is not ABSENT:
            self._crowded()
            self._take(line)
            return True
        if envelope.method in _OF_THE_CHILDS_LOGIN:
            return True
        if envelope.method in OF_TURNS and envelope.id is ABSENT:
            self._heard(envelope.method, envelope.params)
        why = self._why() if TELLING in line and is_failed_turn(envelope.method) else None
        if why is None:
            return False
        self._let_pass(explained(line, why, needs_login=self._needs_login()))
        return True


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
