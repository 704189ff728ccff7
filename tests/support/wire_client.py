"""A client of the account API: newline-delimited JSON over the pipes of any program that offers it."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any, Self

Message = dict[str, Any]
SUBPROCESS_NOISE = ("COV_CORE_", "CODEX_", "OPENAI_")
AUTHSTATE = (sys.executable, "-m", "authstate.adapters.cli")
ANSWERS_WITHIN = 60.0
"""Seconds for what must come: more than any program needs on a busy machine."""
INITIALIZE: Message = {
    "clientInfo": {"name": "interop", "title": "Interop", "version": "1.0"},
    "capabilities": {"experimentalApi": True},
}


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment for a child with this home: that of this process, without variables that change a login."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SUBPROCESS_NOISE)}
    return {**kept, "HOME": str(home), "CODEX_HOME": str(home), **more}


class WireClient:
    """Starts `COMMAND app-server` and exchanges messages with it. `received` has all that arrived, in order.

    Args:
        command: the program and its arguments before `app-server`.
        environment: of the program.
        listen: arguments after `app-server`.
        answer: returns the answer to a request of the server, or None. By default none is answered.
        errors: the file for its standard error. By default that is discarded.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        *,
        listen: Sequence[str] = (),
        answer: Callable[[Message], Message | None] | None = None,
        errors: IO[bytes] | None = None,
    ) -> None:
        self.received: list[Message] = []
        self.methods: dict[Any, str] = {}
        """The method of each request that was sent, by its id."""
        self._answer = answer
        self._count = 0
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*command, "app-server", *listen],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.DEVNULL,
            env=environment,
        )
        threading.Thread(target=self._pump, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=ANSWERS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def send(self, message: Message) -> None:
        """Write one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, method: str, params: Message | None = None) -> int:
        """Send a request. Returns its id, for `answer_to`."""
        self._count += 1
        self.methods[self._count] = method
        self.send({"id": self._count, "method": method} | ({} if params is None else {"params": params}))
        return self._count

    def answer_to(self, number: int, *, timeout: float = ANSWERS_WITHIN) -> Message:
        """Wait for the answer to a request. Returns the whole message, with `result` or `error`.

        Raises:
            TimeoutError: there is no answer within `timeout` seconds, or the program closed its output.
        """
        while True:
            message = self._next(timeout)
            if message is None:
                raise TimeoutError(f"no answer to {self.methods[number]} within {timeout:g} seconds")
            if message.get("id") == number and "method" not in message:
                return message

    def call(self, method: str, params: Message | None = None, *, timeout: float = ANSWERS_WITHIN) -> Message:
        """Send a request and wait for its answer."""
        return self.answer_to(self.start(method, params), timeout=timeout)

    def result(self, method: str, params: Message | None = None) -> Any:
        """Send a request that must succeed. Returns its result."""
        answer = self.call(method, params)
        assert "result" in answer, f"{method} was refused: {answer}"
        return answer["result"]

    def until(self, method: str, *, timeout: float = ANSWERS_WITHIN) -> Message:
        """Wait for the next notification of a method. Returns its params. Raises TimeoutError."""
        while (message := self._next(timeout)) is not None:
            if message.get("method") == method:
                params: Message = message["params"]
                return params
        raise TimeoutError(f"no {method} within {timeout:g} seconds")

    def drain(self, quiet: float, *, after: Callable[[], bool] | None = None) -> None:
        """Receive until nothing arrives for `quiet` seconds. What must come is waited for with `after`, as long as it
        takes: a program on a busy machine may be quiet before it, too.
        """
        if after is not None:
            self.wait_until(after)
        while self._next(quiet) is not None:
            pass

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = ANSWERS_WITHIN) -> None:
        """Receive until `ready` returns true, at most for `timeout` seconds. It is called after each message."""
        deadline = monotonic() + timeout
        while not ready() and self._next(max(0.0, deadline - monotonic())) is not None:
            pass

    def initialize(self) -> Message:
        """Do the handshake. Returns the answer to `initialize`."""
        answer = self.call("initialize", INITIALIZE)
        self.send({"method": "initialized"})
        return answer

    def _next(self, timeout: float) -> Message | None:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            return None
        message: Message = json.loads(line)
        self.received.append(message)
        if "method" in message and "id" in message and self._answer and (answer := self._answer(message)):
            self.send({"id": message["id"], **answer})
        return message

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)
