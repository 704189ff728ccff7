"""What is answered before the event loop is imported, and what is left to the server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.module_commands import command_of

from authstate.adapters.app_server import server
from authstate.adapters.app_server.first_answer import FirstAnswer, answer_first
from authstate.adapters.app_server.server import serve
from authstate.adapters.config import Config, Environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot tell whether a pipe has input")

HELLO = b'{"id":"a","method":"initialize","params":{"clientInfo":{"name":"ide","version":"1"}}}\n'
READ = b'{"id":7,"method":"account/read","params":{}}\n'


class Pipes(NamedTuple):
    """Two pipes: what the client writes to and reads from, and the ends of the server."""

    to_server: int
    stdin: int
    stdout: int
    from_server: int

    def send(self, data: bytes) -> FirstAnswer:
        """Write, and let the server answer."""
        os.write(self.to_server, data)
        return answer_first(self.stdin, self.stdout, "/home/me")

    def received(self) -> bytes:
        """What the server wrote."""
        os.set_blocking(self.from_server, False)
        try:
            return os.read(self.from_server, 65536)
        except BlockingIOError:
            return b""


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    yield Pipes(to_server, stdin, stdout, from_server)
    for fd in (stdin, to_server, from_server, stdout):
        try:
            os.close(fd)
        except OSError:
            continue  # the test closed it


def test_initialize_is_answered_and_what_follows_is_left(pipes: Pipes) -> None:
    first = pipes.send(HELLO + READ + b'{"id":8')
    answer = json.loads(pipes.received())
    assert answer["id"] == "a"
    assert answer["result"]["codexHome"] == "/home/me"
    assert first == FirstAnswer(HELLO[:-1], b"", READ + b'{"id":8')


@pytest.mark.parametrize(
    "data",
    [
        HELLO[:-1],
        READ + HELLO,
        b"\n" + HELLO,
        b"no JSON\n",
        HELLO.replace(b'"a"', b"null"),
        HELLO.replace(b'"id":"a",', b""),
        HELLO.replace(b',"version":"1"', b""),
        b'{"id":1,"method":"initialize"}\n',
        b'{"id":1,"method":"initialize","params":null}\n',
        HELLO.replace(b'"ide"', b'"\\ud800"'),
        HELLO.replace(b'"ide"', b'"\xff"'),
        HELLO.replace(b'"1"', b'"1","deep":[[]]'),
        HELLO.replace(b'"1"', b'"1","version":"2"'),
        HELLO.replace(b'"1"', b'"1","size":1e999'),
        HELLO.replace(b'"a"', b"1.0"),
    ],
    ids=[
        "part",
        "later",
        "blank",
        "no JSON",
        "null id",
        "notification",
        "wrong",
        "no params",
        "null params",
        "half a character",
        "no UTF-8",
        "nested",
        "twice",
        "a fraction",
        "a fraction as its id",
    ],
)
def test_everything_else_is_left_to_the_server(pipes: Pipes, data: bytes) -> None:
    assert pipes.send(data) == FirstAnswer(unread=data)
    assert pipes.received() == b""


def test_nothing_is_awaited(pipes: Pipes) -> None:
    assert answer_first(pipes.stdin, pipes.stdout, "/home/me") == FirstAnswer()


def test_a_descriptor_that_is_closed_or_a_file_is_left_to_the_server(pipes: Pipes, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(HELLO)
    with open(tmp_path / "input", "rb") as file:
        assert answer_first(file.fileno(), pipes.stdout, str(tmp_path)) == FirstAnswer()
        assert file.read() == HELLO
    os.write(pipes.to_server, HELLO)
    os.close(pipes.stdout)
    assert answer_first(pipes.stdin, pipes.stdout, str(tmp_path)) == FirstAnswer()


def test_an_answer_that_nobody_reads_is_left_to_the_server(pipes: Pipes) -> None:
    os.close(pipes.from_server)
    first = pipes.send(HELLO + READ)
    assert first.answered == HELLO[:-1]
    assert json.loads(first.unsent)["id"] == "a"
    assert first.unread == READ


def test_a_long_answer_is_written_in_part(pipes: Pipes) -> None:
    first = pipes.send(HELLO.replace(b'"ide"', b'"' + b"x" * 3000 + b'"'))
    received = pipes.received()
    assert received
    assert first.unsent
    assert json.loads(received + first.unsent)["result"]["userAgent"].startswith("xxx")


async def test_the_server_goes_on_where_the_first_answer_ended(
    pipes: Pipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LAST_ANSWERS", 60.0)  # seconds for the account to open
    first = pipes.send(HELLO.replace(b'"ide"', b'"' + b"x" * 3000 + b'"') + HELLO + READ)
    os.close(pipes.to_server)
    environment = Environment.read({"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path)}, acts_with_key=False)
    status = await serve(Config(), environment, stdin_fd=pipes.stdin, stdout_fd=pipes.stdout, first=first)
    answers = [json.loads(line) for line in pipes.received().splitlines()]
    assert status == 0
    assert [answer["id"] for answer in answers] == ["a", "a", 7]
    assert answers[1]["error"]["message"] == "Already initialized"
    assert answers[2]["result"]["account"] is None


async def test_a_signal_that_came_before_the_loop_ends_the_server(pipes: Pipes, tmp_path: Path) -> None:
    environment = Environment.read({"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path)}, acts_with_key=False)
    noted = [int(signal.SIGTERM)]
    assert await serve(Config(), environment, stdin_fd=pipes.stdin, stdout_fd=pipes.stdout, noted=noted) == 143


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts an app-server that has been sent `initialize`."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        stdin, to_server = os.pipe()
        os.write(to_server, HELLO)  # before the process starts, so that it is there in time
        environment: dict[str, Any] = {**os.environ, "HOME": str(tmp_path), "CODEX_HOME": str(tmp_path)}
        command = command_of("authstate.adapters.cli", "app-server")
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, env=environment)
        os.close(stdin)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_signal_right_after_the_first_answer_ends_the_process_in_good_order(
    start: Callable[[], subprocess.Popen[bytes]],
) -> None:
    process = start()
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b'{"id":"a","result"')
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143


def test_a_warning_about_the_configuration_is_printed_although_logging_comes_later(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('chatgpt_base_url = "http://backend.example"\n')
    environment = {**os.environ, "CODEX_HOME": str(tmp_path), "AUTHSTATE_ALLOW_HTTP_HOSTS": "backend.example"}
    command = command_of("authstate.adapters.cli", "app-server")
    done = subprocess.run(command, input=HELLO, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0
    assert b"tokens go to backend.example over http://" in done.stderr


@pytest.mark.parametrize(
    ("module", "late"),
    [
        ("authstate.adapters.app_server.start", ["msgspec", "asyncio", "pathlib", "logging"]),
        ("authstate.adapters.app_server.server, authstate.adapters.assembly", ["shutil", "lzma", "httpx", "tempfile"]),
    ],
    ids=["until initialize", "until account/read"],
)
def test_what_the_answer_does_not_need_is_imported_later(module: str, late: list[str]) -> None:
    program = f"import sys, {module}\nprint(*(name for name in {late} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
