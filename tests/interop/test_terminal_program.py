"""`authstate run -- codex` in a terminal: the terminal program of codex with the loopback model, in tmux."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config
from support.processes import end_processes_of, processes_of, still_running
from support.real_parts import RealParts
from support.terminals import PROMPT, Terminal
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.cli.codex_arguments import starts_terminal_program, without_daemon
from authstate.testing import LoopbackIssuer

if sys.platform != "linux":
    pytest.skip("tmux is installed on Linux only", allow_module_level=True)

MakeHome = Callable[..., Path]
RUN = (*AUTHSTATE, "run", "--")
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}
each_release = pytest.mark.parametrize("release", [OLD, NEW, "newest"])


def config_for_terminal(issuer: LoopbackIssuer, folder: Path) -> str:
    """Lines of config.toml with which the terminal program asks nothing when it starts in a folder."""
    return f"""check_for_update_on_startup = false
{model_config(issuer)}
[projects."{folder}"]
trust_level = "trusted"
[notice.model_migrations]
"gpt-5" = "gpt-5.2-codex"
"""


def turn_ended(words: str, release: str) -> Callable[[str], bool]:
    """Whether a screen shows the answer, and that the turn is over. 0.93.0 does not show the latter."""
    shown = [f"You said: {words}", *(["Worked for"] if release != OLD else [])]
    return lambda screen: all(text in screen for text in shown)


def has_line(start: str) -> Callable[[str], bool]:
    return lambda screen: any(line.startswith(start) for line in screen.splitlines())


def any_of(shown: Callable[[str], bool], text: str) -> Callable[[str], bool]:
    return lambda screen: shown(screen) or text in screen


def leave(terminal: Terminal) -> None:
    """End the terminal program, whose shell then prints `ended with 0`.

    In 0.93.0 the turn may not be over yet: the first C-c interrupts it. 0.171.0 ignores one that comes while it ends a
    turn (seen once). So it is pressed again until the program has ended.
    """
    ended = has_line("ended with 0")
    is_interrupted = False
    for _ in range(12):
        terminal.press("C-c")
        with suppress(TimeoutError):
            screen = terminal.until(ended if is_interrupted else any_of(ended, "interrupted"), timeout=5)
            if ended(screen):
                return
            is_interrupted = True
    raise AssertionError(f"the program has not ended:\n{terminal.screen()}")


@pytest.fixture
def terminal_in(real_parts: RealParts, issuer: LoopbackIssuer) -> Iterator[Callable[[Path, Path], Terminal]]:
    """Opens a terminal: the home, and the folder. Whatever still runs with this home afterwards is killed."""
    real_parts.tmux()
    with ExitStack() as open_now:

        def begin(home: Path, folder: Path) -> Terminal:
            open_now.callback(end_processes_of, home)
            return open_now.enter_context(Terminal(clean_environment(home, **issuer.environment), folder))

        yield begin


@each_release
def test_a_turn_job_control_and_the_end(
    release: str,
    real_parts: RealParts,
    make_home: MakeHome,
    tmp_path: Path,
    issuer: LoopbackIssuer,
    terminal_in: Callable[[Path, Path], Terminal],
) -> None:
    codex = real_parts.codex(release)
    home = make_home(config=config_for_terminal(issuer, tmp_path), **PERSON)
    terminal = terminal_in(home, tmp_path)
    before = set(processes_of(home))
    modes = terminal.modes()
    terminal.run("stty -a > before; clear")
    terminal.run(shlex.join([*RUN, str(codex), "hello"]))
    terminal.until(turn_ended("hello", release))
    program = [pid for pid in processes_of(home) if pid not in before]
    assert program

    terminal.press("C-z")
    terminal.until(has_line("[1]+  Stopped"))
    assert terminal.modes() == modes
    terminal.run("clear; fg; echo ended with $?")
    terminal.until(lambda screen: "? for shortcuts" in screen)

    leave(terminal)
    assert terminal.modes() == modes
    terminal.run("clear; stty -a > after; jobs; echo listed")
    assert "[1]" not in terminal.until(has_line("listed"))
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()
    assert still_running(program) == []
    assert set(processes_of(home)) <= before
    assert not (home / "app-server-control").exists()
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


COUNT_INTERRUPTS = """
import signal, sys
count = 0
def interrupted(*_):
    global count
    count += 1
    print("interrupt", count, flush=True)
signal.signal(signal.SIGINT, interrupted)
print("begun", flush=True)
sys.stdin.readline()
print("counted", count, flush=True)
sys.exit(7)
"""


def test_a_ctrl_c_arrives_once(
    make_home: MakeHome, tmp_path: Path, terminal_in: Callable[[Path, Path], Terminal]
) -> None:
    """The terminal sends it to `authstate run` and to the command."""
    (tmp_path / "count.py").write_text(COUNT_INTERRUPTS)
    terminal = terminal_in(make_home(**PERSON), tmp_path)
    terminal.run(shlex.join([*RUN, sys.executable, "count.py"]) + "; echo ended with $?")
    terminal.until(has_line("begun"))
    terminal.press("C-c")
    terminal.until(lambda screen: "interrupt 1" in screen)
    terminal.press("Enter")
    assert "counted 1" in terminal.until(has_line("ended with 7"))


def test_a_command_that_ctrl_c_ends(
    make_home: MakeHome, tmp_path: Path, terminal_in: Callable[[Path, Path], Terminal]
) -> None:
    """The shell sees that SIGINT ended it, so it does not go on with the rest of the line."""
    terminal = terminal_in(make_home(**PERSON), tmp_path)
    terminal.run(shlex.join([*RUN, "sh", "-c", "echo begun; exec cat"]) + "; echo not reached | tr a-z A-Z")
    terminal.until(has_line("begun"))
    terminal.press("C-c")
    terminal.until(lambda screen: screen.splitlines()[-1] == PROMPT)
    terminal.run("echo ended with $?")
    assert "NOT REACHED" not in terminal.until(has_line("ended with 130"))


COMMAND_LINES = (
    *("", "hello", "-m gpt-5 hello", "resume", "resume --last", "fork", "-m exec"),
    *("-i a.png exec", "-i a.png b.png resume", "--image=a.png hello", "-- exec", "-- --help", "-- --remote"),
    *("exec --help", "e --help", "--image=a.png exec --help", "-i a.png --search exec --help", "-m resume exec --help"),
    *("login status", "features list", "mcp list", "app-server --help", "completion bash", "--version", "help"),
)


@each_release
def test_which_command_lines_start_the_terminal_program(
    release: str, real_parts: RealParts, make_home: MakeHome
) -> None:
    """The terminal program refuses to start without a terminal, and says so."""
    codex = str(real_parts.codex(release))
    environment = clean_environment(make_home())
    only_newer = () if release == OLD else ("agents",)

    def starts(words: Sequence[str]) -> bool:
        done = subprocess.run(
            [codex, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return "stdin is not a terminal" in done.stderr

    for line in (*COMMAND_LINES, *only_newer):
        words = line.split()
        assert starts_terminal_program(words, codex) is starts(words), line
        assert starts(without_daemon([codex, *words])[1:]) is starts(words), line
