"""Runs `authstate wrap` in tests, with the fake child or a real codex."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from support.wire_client import AUTHSTATE, INITIALIZE, Message, WireClient, clean_environment

from authstate.testing import LoopbackIssuer

WRAP = (*AUTHSTATE, "wrap", "--")
_FAKE = str(Path(__file__).parent / "fake_child.py")


def fake_command(mode: str = "plain") -> list[str]:
    """The command of the fake child, without its last word `app-server`."""
    return [sys.executable, _FAKE, mode]


class Wrapped(WireClient):
    """The front-end of a wrapped child.

    Args:
        command: the command of the child, without its last word `app-server`.
        home: the home of the wrapper and of the child.
        issuer: the issuer that both use.
        answer: see `WireClient`.
        errors: see `WireClient`.
    """

    def __init__(
        self,
        command: list[str],
        home: Path,
        issuer: LoopbackIssuer,
        *,
        answer: Callable[[Message], Message | None] | None = None,
        errors: IO[bytes] | None = None,
    ) -> None:
        environment = clean_environment(home, **issuer.environment)
        super().__init__([*WRAP, *command], environment, answer=answer, errors=errors)

    def handshake(self, **capabilities: Any) -> Message:
        """Initialize the child. Returns its result."""
        answer = self.call("initialize", {**INITIALIZE, "capabilities": capabilities or None})
        self.send({"method": "initialized"})
        result: Message = answer["result"]
        return result

    def notifications(self) -> list[str]:
        """The methods of the notifications and requests that were received, in order."""
        return [message["method"] for message in self.received if "method" in message]

    def end(self) -> int:
        """Close the input and wait until the wrapper exits. Returns its exit status."""
        self.__exit__()
        return int(self.process.returncode)


def starter(running: ExitStack, make_home: Callable[..., Path], issuer: LoopbackIssuer) -> Callable[..., Wrapped]:
    """Return a function that starts a wrapped child, which ends with the stack.

    The function takes the mode of the fake child, `answer` of `WireClient`, and the arguments of `make_home`.
    """

    def begin(mode: str = "plain", *, answer: Any = None, **login: Any) -> Wrapped:
        return running.enter_context(Wrapped(fake_command(mode), make_home(**login), issuer, answer=answer))

    return begin


def children_of(front: Wrapped) -> list[str]:
    """The process ids of the wrapper's children. Linux only."""
    pid = front.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
