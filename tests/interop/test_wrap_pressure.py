"""`authstate wrap` when one side does not read: the other is held up, memory stays flat, and nothing is lost."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from support.wire_client import clean_environment
from support.wrapped import WRAP, fake_command

MakeHome = Callable[..., Path]
MEGABYTE = 1024 * 1024
READY = b'{"id":0,"method":"initialize","params":{}}\n'
pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="what a process did is read from /proc")


class Front:
    """A front-end that reads only when it wants to."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [*WRAP, *fake_command(), "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(home),
            bufsize=0,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self._rest = b""
        self.stdin.write(READY)
        assert "fake/1.0" in json.dumps(self.read())

    def read(self) -> dict[str, object]:
        """The next message."""
        while b"\n" not in self._rest:
            data = os.read(self.stdout.fileno(), MEGABYTE)
            assert data, "it ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message: dict[str, object] = json.loads(line)
        return message

    def send_until_full(self, line: bytes) -> int:
        """Send as many lines as are taken; how many were. A short line is taken whole or not at all."""
        os.set_blocking(self.stdin.fileno(), False)
        sent, rest = 0, b""
        while True:
            rest = rest or line
            try:
                rest = rest[os.write(self.stdin.fileno(), rest) :]
                sent += not rest
            except BlockingIOError:
                if self._stands_still():
                    break
        return sent

    def _stands_still(self) -> bool:
        """Whether the wrapper has stopped to read, as far as half a second can tell."""
        before, deadline = self.has_read(), monotonic() + 0.5
        while monotonic() < deadline:
            if self.has_read() != before:
                return False
        return True

    def has_read(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/io").read_text().split("rchar:")[1].split()[0])

    def resident(self) -> int:
        """The memory of the wrapper, in bytes."""
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


@pytest.fixture
def front(make_home: MakeHome) -> Iterator[Front]:
    running = Front(make_home())
    yield running
    running.stdin.close()
    running.stdout.close()
    running.process.terminate()  # the child, too: one that sleeps would outlive a wrapper that is killed
    running.process.wait(timeout=30)


def test_a_front_end_that_does_not_read_slows_the_child_down(front: Front) -> None:
    before = front.resident()
    front.stdin.write(b'{"id":1,"method":"x/flood","params":{"lines":3000,"size":65536}}\n')
    while not front._stands_still():
        pass
    assert front.resident() - before < 8 * MEGABYTE, "of 190 MB"
    for number in range(3000):
        assert front.read()["params"] == {"n": number, "text": "x" * 65536}
    assert front.read()["id"] == 1


def test_a_front_end_that_asks_and_does_not_read_is_not_read(front: Front) -> None:
    before = front.resident()
    sent = front.send_until_full(b'{"id":7,"method":"account/read"}\n')
    assert sent < 100_000
    assert front.resident() - before < 16 * MEGABYTE
    for _ in range(sent):
        assert front.read()["id"] == 7


@pytest.mark.parametrize("method", ["account/login/start", "loginApiKey"])
def test_a_login_that_is_too_long_is_refused_and_does_not_reach_the_child(front: Front, method: str) -> None:
    line = b'{"id":1,"method":"%s","params":{"type":"apiKey","apiKey":"' % method.encode() + b"k" * 20 * MEGABYTE
    for start in range(0, len(line), MEGABYTE):
        front.stdin.write(line[start : start + MEGABYTE])
    front.stdin.write(b'"}}\n{"id":2,"method":"x/token"}\n')
    refused = {"code": -32600, "message": f"the line is longer than {16 * MEGABYTE} bytes"}
    assert front.read() == {"id": None, "error": refused}
    assert front.read() == {"id": 2, "result": {"token": None, "logins": []}}


def test_a_child_that_does_not_read_slows_the_front_end_down(front: Front) -> None:
    front.stdin.write(b'{"id":1,"method":"x/sleep"}\n')
    before = front.resident()
    line = b'{"id":7,"method":"x/echo","params":{"text":"' + b"x" * 65536 + b'"}}\n'
    sent = front.send_until_full(line)
    assert sent < 200, "it held 13 MB for a child that does not read"
    assert front.resident() - before < 8 * MEGABYTE
