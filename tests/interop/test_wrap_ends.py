"""Every way to end `authstate wrap`, around a child that does as it is told, and every way not to begin."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
from support.wire_client import AUTHSTATE, INITIALIZE, clean_environment
from support.wrapped import WRAP, Wrapped, children_of, fake_command, starter

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
Start = Callable[..., Wrapped]


@pytest.fixture
def start(make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[Start]:
    with ExitStack() as running:
        yield starter(running, make_home, issuer)


def is_running(pid: str) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


IN_A_TERMINAL = """
import os, signal, subprocess, sys
os.open(sys.argv[1], os.O_RDWR)  # the terminal of this session, and we are in its foreground
signal.signal(signal.SIGINT, lambda *_: None)
front = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
front.stdin.write(b'{"id":1,"method":"initialize","params":{}}\\n{"id":2,"method":"account/read"}\\n')
front.stdin.flush()
while b'"id":2' not in front.stdout.readline():
    pass
print("ready", flush=True)
if sys.argv[2] == "to the wrapper alone":
    front.send_signal(signal.SIGINT)
print(front.wait(timeout=60), flush=True)
"""
"""A program that is handed a terminal, how the signal is sent and a command, and tells how the command ended."""


class TestEnds:
    @pytest.mark.parametrize("status", [0, 1, 77])
    def test_the_exit_status_is_the_childs(self, start: Start, status: int) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.start("x/exit", {"status": status})
        assert front.process.wait(timeout=60) == status

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    def test_a_signal_that_ends_the_child_ends_the_wrapper(self, start: Start, number: signal.Signals) -> None:
        front = start()
        front.handshake()
        front.start("x/kill", {"signal": int(number)})
        assert front.process.wait(timeout=60) == -number

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    def test_a_signal_reaches_the_child(self, start: Start, number: signal.Signals) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.process.send_signal(number)
        assert front.process.wait(timeout=60) == -number

    @pytest.mark.skipif(sys.platform != "linux", reason="how a process gets a terminal differs")
    @pytest.mark.parametrize("sent", ["to the wrapper alone", "by the terminal"])
    def test_an_interrupt_in_the_foreground_of_a_terminal(
        self, make_home: MakeHome, issuer: LoopbackIssuer, sent: str
    ) -> None:
        """A front-end that a person started in a terminal ends its app-server; or the person types Ctrl-C."""
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, os.ttyname(theirs), sent, *WRAP, *fake_command(), "app-server"],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=clean_environment(make_home(), **issuer.environment),
        ) as front:
            assert front.stdout is not None
            assert front.stdout.readline() == b"ready\n"
            if sent == "by the terminal":
                os.write(ours, b"\x03")
            assert front.stdout.readline() == b"%d\n" % -signal.SIGINT
        os.close(ours)
        os.close(theirs)

    def test_a_wrapper_that_is_killed_leaves_no_child_behind(self, start: Start) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.result("x/token")
        [child] = children_of(front)
        front.process.kill()
        front.process.wait()
        deadline = monotonic() + 60
        while is_running(child):
            assert monotonic() < deadline, "it outlived its wrapper"

    def test_the_end_of_the_input_ends_the_child(self, start: Start) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.start("x/wait")
        assert front.end() == 0

    def test_what_came_before_the_end_is_answered(self, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
        words = [
            {"id": 1, "method": "initialize", "params": INITIALIZE},
            {"id": 2, "method": "account/read"},
            {"id": 3, "method": "x/token"},
        ]
        done = subprocess.run(
            [*WRAP, *fake_command(), "app-server"],
            input="".join(json.dumps(word) + "\n" for word in words),
            capture_output=True,
            text=True,
            timeout=60,
            env=clean_environment(make_home(email="person@example.com"), **issuer.environment),
        )
        answers = {one["id"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert answers[2]["result"]["account"]["email"] == "person@example.com"
        assert answers[3]["result"]["logins"] == ["chatgptAuthTokens"]
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_child_that_dies_at_once_is_named(self, make_home: MakeHome) -> None:
        done = run_wrap([*fake_command("exits"), "app-server"], make_home())
        assert done.returncode == 3
        assert done.stdout == ""
        assert "ended with status 3 before it answered `initialize`" in done.stderr

    def test_a_child_that_never_answers_ends_by_a_signal(self, start: Start) -> None:
        front = start("silent", email="person@example.com")
        front.start("initialize", INITIALIZE)
        front.start("account/read")
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(timeout=60) == -signal.SIGTERM

    def test_a_child_that_reads_nothing_does_not_delay_the_end(self, start: Start) -> None:
        front = start("closes-input", email="person@example.com")
        front.send({"id": 1, "method": "initialize", "params": INITIALIZE})
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(timeout=60) == -signal.SIGTERM

    def test_a_front_end_that_stops_reading(self, make_home: MakeHome) -> None:
        front = subprocess.Popen(
            [*WRAP, *fake_command(), "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(make_home()),
        )
        assert front.stdin is not None and front.stdout is not None
        front.stdin.write(b'{"id":1,"method":"initialize","params":{}}\n')
        front.stdin.flush()
        assert b"fake/1.0" in front.stdout.readline()
        front.stdout.close()
        deadline = monotonic() + 60
        with suppress(BrokenPipeError):
            # A first answer may still reach the wrapper's pipe before that is closed.
            while front.poll() is None and monotonic() < deadline:
                front.stdin.write(b'{"id":2,"method":"x/echo"}\n')
                front.stdin.flush()
                sleep(0.05)
        assert front.wait(timeout=60) != 0  # the child's own end: it wrote to nobody
        with suppress(BrokenPipeError):
            front.stdin.close()


def run_wrap(command: list[str], home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AUTHSTATE, *options, "wrap", "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(home),
    )


class TestMistakes:
    def test_a_program_that_does_not_exist(self, make_home: MakeHome) -> None:
        done = run_wrap(["no-such-codex", "app-server"], make_home())
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == "authstate: cannot start no-such-codex: there is no such program\n"

    def test_a_program_that_cannot_run(self, make_home: MakeHome) -> None:
        home = make_home()
        (home / "codex").write_text("no program")
        done = run_wrap([str(home / "codex"), "app-server"], home)
        assert done.returncode == 126
        assert "permission denied" in done.stderr

    def test_a_command_that_is_no_app_server(self, make_home: MakeHome) -> None:
        done = run_wrap(["codex", "exec"], make_home())
        assert done.returncode == 2
        assert "no word `app-server`" in done.stderr

    def test_a_transport_that_is_not_possible(self, make_home: MakeHome) -> None:
        done = run_wrap(["codex", "app-server", "--listen", "ws://127.0.0.1:1"], make_home())
        assert done.returncode == 2
        assert "stdio://" in done.stderr

    @pytest.mark.parametrize("arguments", [["wrap"], ["wrap", "--"], ["wrap", "--what", "codex"]])
    def test_a_command_line_that_is_wrong(self, arguments: list[str], make_home: MakeHome) -> None:
        done = subprocess.run(
            [*AUTHSTATE, *arguments], capture_output=True, text=True, timeout=60, env=clean_environment(make_home())
        )
        assert done.returncode == 2
        assert "authstate wrap -- codex app-server" in done.stderr

    def test_a_child_with_a_configuration_that_cannot_be_used_gets_no_byte(self, make_home: MakeHome) -> None:
        home = make_home(config="forced_login_method = 7\n")
        heard = home / "heard"
        script = f"import sys; data = sys.stdin.read(); open({str(heard)!r}, 'w').write(data)"
        done = run_wrap([sys.executable, "-c", script, "app-server"], home)
        assert done.returncode == 3
        assert done.stderr.startswith(f"authstate: {home / 'config.toml'}: forced_login_method must be")
        assert not heard.exists()

    def test_the_settings_of_the_child_count_for_authstate_too(self, make_home: MakeHome) -> None:
        done = run_wrap([*fake_command(), "-c", "forced_login_method=7", "app-server"], make_home())
        assert done.returncode == 3
        assert "forced_login_method" in done.stderr

    def test_the_child_works_although_the_account_cannot_be_read(self, start: Start) -> None:
        front = start(raw="{half")
        front.handshake()
        assert front.result("account/read")["account"] is None
        assert front.result("x/echo", {"still": "here"}) == {"echo": {"still": "here"}}
