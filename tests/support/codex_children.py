"""Unmodified codex app-servers that run turns, and what is in their memory."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.codex_turns import thread_params, turn_params
from support.wire_client import WireClient, clean_environment


class Child:
    """A codex app-server with a thread."""

    def __init__(self, command: list[str], home: Path, environment: dict[str, str], running: ExitStack) -> None:
        self.client = running.enter_context(WireClient(command, clean_environment(home, **environment)))
        self.client.initialize()
        self.client.send({"method": "initialized"})
        self.thread = self.client.result("thread/start", thread_params(home))["thread"]["id"]

    def turn(self) -> str:
        """Run a turn and return how it ended."""
        return self.finish_turn(self.begin_turn())

    def begin_turn(self) -> int:
        """Begin a turn. Returns what `finish_turn` takes."""
        before = len(self.client.received)
        self.client.result("turn/start", turn_params(self.thread, "hi"))
        return before

    def finish_turn(self, before: int) -> str:
        """Wait for the end of a turn, and return how it ended: `completed`, or the error."""

        def ended() -> list[dict[str, Any]]:
            messages = self.client.received[before:]
            return [message["params"]["turn"] for message in messages if message.get("method") == "turn/completed"]

        self.client.wait_until(lambda: bool(ended()), timeout=60)
        turn = ended()[0]
        return str(turn["status"] if turn["error"] is None else turn["error"]["message"])


def memory_of(pid: int) -> bytes:
    """All memory of a process that can be written. Linux only, with the right to trace it."""
    parts = []
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            bounds, mode = line.split()[:2]
            start, end = (int(word, 16) for word in bounds.split("-"))
            if mode.startswith("rw"):
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(parts)
