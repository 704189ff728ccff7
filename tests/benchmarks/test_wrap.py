"""What `authstate wrap` adds: to a round trip, to a start, and what it carries without growing."""

import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import pytest
from benchmarks import echo_child
from benchmarks.side_by_side import TRIES, Program, keep, lower_quartile, record, starts

ADDED_TO_A_ROUND_TRIP = 0.15e-3  # seconds
ADDED_TO_A_START = 0.12
MESSAGES_A_SECOND = 20_000
BYTES_A_SECOND = 50e6
GROWTH = 8 * 1024  # kB that 1 GB may leave behind
ROUNDS, BATCH = 60, 25
SMALL = b'{"id":7,"method":"thread/list","params":{"cursor":"' + b"x" * 80 + b'"}}\n'
LARGE = b'{"id":7,"method":"thread/list","params":{"text":"' + b"x" * 400_000 + b'"}}\n'
WRAP = [sys.executable, "-m", "authstate.adapters.cli", "wrap", "--"]


class Echo:
    """A running echo, past its handshake."""

    def __init__(self, command: list[str], home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "CODEX_"))}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "CODEX_HOME": str(home)},
            bufsize=0,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.write(self._in, b'{"id":1,"method":"initialize","params":{"capabilities":{"experimentalApi":true}}}\n')
        assert b"echo/1.0" in self._read_line()
        os.write(self._in, SMALL)
        while not self._read_line().endswith(SMALL):  # this child sends back what wrap asks it, too
            pass

    def round_trip(self, line: bytes) -> float:
        """Seconds until the line was back."""
        began = perf_counter()
        os.write(self._in, line)
        self._read(len(line))
        return perf_counter() - began

    def carry(self, line: bytes, total: int) -> float:
        """Send the line until `total` bytes are through, and read them back. Seconds."""
        block = line * max(1, 1_000_000 // len(line))
        blocks = max(1, total // len(block))
        writer = threading.Thread(target=self._write, args=(block, blocks))
        began = perf_counter()
        writer.start()
        self._read(len(block) * blocks)
        seconds = perf_counter() - began
        writer.join()
        return seconds * total / (len(block) * blocks)

    def exchange(self, line: bytes) -> bytes:
        """Send a line of any length, and read the one that comes back."""
        writer = threading.Thread(target=self._write, args=(line, 1))
        writer.start()
        received = self._read_line()
        writer.join()
        return received

    def resident(self) -> int:
        """The memory of the process, in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def _write(self, block: bytes, blocks: int) -> None:
        for _ in range(blocks):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self._in, rest) :]

    def _read_line(self) -> bytes:
        received = bytearray()
        while not received.endswith(b"\n"):
            data = os.read(self._out, 1 << 20)
            assert data, "it ended before it answered"
            received += data
        return bytes(received)

    def _read(self, size: int) -> None:
        while size > 0:
            data = os.read(self._out, min(size, 1 << 20))
            assert data, "it ended before everything was back"
            size -= len(data)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Callable[..., Echo]]:
    """Starts an echo: `echo()` is wrapped, `echo([])` is not."""
    command = echo_child.make(tmp_path)
    with ExitStack() as stack:

        def start(before: list[str] = WRAP) -> Echo:
            running = Echo([*before, *command], tmp_path)
            stack.callback(running.close)
            return running

        yield start


def test_a_round_trip(echo: Callable[..., Echo]) -> None:
    running = {"through wrap": echo(), "the child itself": echo([])}
    added = []
    for _ in range(TRIES):
        times: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(ROUNDS):
            for name, one in running.items():
                times[name] += [one.round_trip(SMALL) for _ in range(BATCH)]
        keep("a round trip through wrap", times)
        added.append(statistics.median(times["through wrap"]) - statistics.median(times["the child itself"]))
        if added[-1] <= ADDED_TO_A_ROUND_TRIP:
            return
    raise AssertionError(f"wrap added {[round(one * 1000, 3) for one in added]} ms to the median")


@pytest.mark.parametrize(("line", "unit"), [(SMALL, "messages"), (LARGE, "bytes")], ids=["small", "large"])
def test_what_it_carries(echo: Callable[..., Echo], line: bytes, unit: str) -> None:
    running = echo()
    total = 40_000_000 if unit == "messages" else 200_000_000
    wanted = MESSAGES_A_SECOND * len(line) if unit == "messages" else BYTES_A_SECOND
    found = []
    for _ in range(TRIES):
        found.append(total / running.carry(line, total))
        record(f"wrap carries {unit} a second", round(found[-1] / (len(line) if unit == "messages" else 1)))
        if found[-1] >= wanted:
            return
    raise AssertionError(f"wrap carried {found} bytes a second of {wanted}")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_gigabyte_leaves_nothing_behind(echo: Callable[..., Echo]) -> None:
    running = echo()
    running.carry(LARGE, 100_000_000)
    before = running.resident()
    running.carry(LARGE, 1_000_000_000)
    grown = running.resident() - before
    record("kB that 1 GB leaves in wrap", grown)
    assert grown <= GROWTH


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("size", "answer"), [(60_000_000, b'{"id":7,'), (100_000_000, b'"code":-32600')])
def test_long_lines_leave_nothing_behind(echo: Callable[..., Echo], size: int, answer: bytes) -> None:
    """wrap holds a line of up to 64 MiB until its end, and drops a longer one. One line may leave memory that the next
    ones use again.
    """
    running = echo()
    line = b'{"id":7,"method":"thread/list","params":{"text":"' + b"x" * size + b'"}}\n'
    assert answer in running.exchange(line)
    before = running.resident()
    for _ in range(3):
        assert answer in running.exchange(line)
    grown = running.resident() - before
    record(f"kB that three lines of {size} bytes leave in wrap", grown)
    assert grown <= size / 1024


def test_a_start(make_programs: Callable[[str], Mapping[str, Program]]) -> None:
    """From the start of the process to the first `account/read`, beside the same codex without wrap."""
    child = make_programs("chatgpt")["0.169.0"]
    programs = {"through wrap": child._replace(command=[*WRAP, *child.command]), "codex 0.169.0": child}
    added = []
    for _ in range(TRIES):
        times = starts(programs)
        keep("startup of wrap to the first account/read", times)
        added.append(lower_quartile(times["through wrap"]) - lower_quartile(times["codex 0.169.0"]))
        if added[-1] <= ADDED_TO_A_START:
            return
    raise AssertionError(f"wrap added {added} s to the start")
