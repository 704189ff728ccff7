"""A client of the server that is checked: it sends lines, keeps what arrives in order, and answers as a parent does.

Synchronous: a history is a sequence. A thread reads the output, so that a server that does not answer is noticed.
"""

import json
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

from authstate.adapters.child.process import PipedChildProcess

Message = dict[str, Any]

INITIALIZE: Final[Message] = {
    "clientInfo": {"name": "authstate-verify", "title": "authstate verify", "version": "1.0"},
    "capabilities": {"experimentalApi": True},
}
PARENT_METHOD: Final = "account/chatgptAuthTokens/refresh"


class NoAnswer(Exception):
    """The server closed its output, or did not answer in time."""


class Malformed(Exception):
    """The server wrote a line that is no message of the protocol."""


class Connection:
    """One process of the server.

    Args:
        command: the program and its arguments.
        environ: its whole environment.
        errors: the file that its standard error is appended to.
        note: is told every line: ">" or "<" and the text.
        parent: returns the `result` or `error` of the answer to a token request. None: it is not answered.
        patience: seconds to wait for an answer.

    Raises:
        ChildNotStarted: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        errors: Path,
        note: Callable[[str, str], None],
        parent: Callable[[Message], Message | None],
        patience: float,
    ) -> None:
        self.told: list[Message] = []
        """Account notifications and token requests that are not looked at yet, in order."""
        self._note, self._parent, self._patience = note, parent, patience
        self._count = 0
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with errors.open("ab") as file:
            self._process = PipedChildProcess(command, environ, file)
        self.ended: threading.Event = threading.Event()
        self._process.when_ended(lambda _status: self.ended.set())
        self._reader = threading.Thread(target=self._read, daemon=True, name="authstate-verify-reader")
        self._reader.start()

    def send_line(self, line: str) -> None:
        """Write one line. Raises NoAnswer if the server is gone."""
        self._note(">", line)
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._process.stdin_fd, data) :]
        except OSError:
            raise NoAnswer("the server closed its input") from None

    def send(self, message: Message) -> None:
        """Write one message."""
        self.send_line(json.dumps(message))

    def begin(self, method: str, params: Message | None = None) -> int:
        """Send a request. Returns its id."""
        self._count += 1
        self.send({"id": self._count, "method": method} | ({} if params is None else {"params": params}))
        return self._count

    def answer_to(self, number: int | None) -> Message:
        """Wait for the answer with this id. Raises NoAnswer."""
        deadline = monotonic() + self._patience
        while (message := self._next(deadline - monotonic())) is not None:
            if "method" not in message and "id" in message and message["id"] == number:
                return message
        raise NoAnswer(f"no answer within {self._patience:g} seconds, or the server ended")

    def call(self, method: str, params: Message | None = None) -> Message:
        """Send a request and wait for its answer. Raises NoAnswer."""
        return self.answer_to(self.begin(method, params))

    def receive_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Receive until `ready` returns true, at most for this time. Returns whether it did."""
        deadline = monotonic() + seconds
        while not ready():
            if self._next(deadline - monotonic()) is None:
                return ready()
        return True

    def close(self, seconds: float) -> bool:
        """Close the input, and receive what still comes. Returns whether the server ended by itself."""
        self._process.close_stdin()
        ended = self.ended.wait(seconds)
        self.kill()
        return ended

    def kill(self) -> None:
        """Kill it (`kill -9`), and receive what it wrote before. May be called again."""
        self._process.kill()
        self._process.close_stdin()
        self._reader.join(self._patience)
        while self._next(0) is not None:
            pass

    def _next(self, seconds: float) -> Message | None:
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            return None
        text = line.decode("utf-8", "replace").rstrip("\n")
        self._note("<", text)
        try:
            message: Message | None = json.loads(text)
        except ValueError:
            message = None
        if message is None or not _is_well_formed(message):
            raise Malformed(f"this is no message of the protocol: {text}")
        method = str(message.get("method", ""))
        if method.startswith("account/login/") or method in ("account/updated", PARENT_METHOD):
            self.told.append(message)
        if method == PARENT_METHOD and (answer := self._parent(message)):
            self.send({"id": message.get("id"), **answer})
        return message

    def _read(self) -> None:
        with open(self._process.stdout_fd, "rb", closefd=False) as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)


def _is_well_formed(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    if "method" in message:
        return isinstance(message.get("params", {}), dict)
    if "error" in message:
        return isinstance(message["error"], dict) and isinstance(message["error"].get("code"), int)
    return "id" in message and isinstance(message.get("result"), dict)
