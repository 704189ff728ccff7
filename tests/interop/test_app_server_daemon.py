"""The app-server daemon of codex, which outlives its starter: under `authstate run`, and with a broker that stays.

The daemon keeps the environment of its first starter. It copies its binary into the home, some hundred MB.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from interop.test_terminal_program import config_for_terminal, leave, turn_ended
from support.brokers import PATIENT_AUTHSTATE, RunningBroker, refuse_access
from support.codex_binaries import NEW
from support.processes import any_ended, end_processes_of, processes_of
from support.real_parts import RealParts
from support.terminals import Terminal
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

if sys.platform != "linux":
    pytest.skip("only Linux shows the environment of other processes", allow_module_level=True)

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}
SOCKETS = Path(f"/tmp/codex-daemon-{os.geteuid()}")
"""Where codex has the sockets of all daemons of a user."""
each_release = pytest.mark.parametrize("release", [NEW, "newest"])


@pytest.fixture
def home(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> Iterator[Path]:
    """A home of today. At the end its daemon, the update loop of that, its socket and the copied binary are gone."""
    made = make_home(config=config_for_terminal(issuer, tmp_path), **PERSON)
    yield made
    end_processes_of(made)
    shutil.rmtree(made / "packages", ignore_errors=True)
    for link in made.glob("app-server-*/*.sock"):
        socket = link.readlink() if link.is_symlink() else link
        for left in (socket, socket.with_name(f"{socket.name}.lock")):
            left.unlink(missing_ok=True)
    with suppress(OSError):  # another daemon has its socket there
        SOCKETS.rmdir()


def daemon(command: str, codex: Path, environment: dict[str, str], *before: str) -> "subprocess.CompletedProcess[str]":
    """Run `codex app-server daemon COMMAND`."""
    return subprocess.run(
        [*before, str(codex), "app-server", "daemon", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@each_release
def test_run_names_the_daemon_that_a_command_leaves(
    release: str, real_parts: RealParts, home: Path, issuer: LoopbackIssuer
) -> None:
    codex = real_parts.codex(release)
    environment = clean_environment(home, **issuer.environment)
    started = daemon("start", codex, environment, *AUTHSTATE, "run", "--")
    assert started.returncode == 0, started.stderr
    left = processes_of(home)
    assert left
    said = [line for line in started.stderr.splitlines() if line.startswith("authstate: ")]
    assert len(said) == 1
    assert f"({', '.join(map(str, left))})" in said[0]
    assert "codex app-server daemon stop" in said[0]
    assert daemon("stop", codex, environment).returncode == 0
    assert any_ended(left)


@each_release
def test_a_daemon_refreshes_with_a_broker_that_stays(
    release: str, real_parts: RealParts, home: Path, tmp_path: Path, issuer: LoopbackIssuer
) -> None:
    """The terminal program starts it, and a second one finds it."""
    real_parts.tmux()
    codex = real_parts.codex(release)
    with RunningBroker(home, issuer, PATIENT_AUTHSTATE) as broker:
        environment = clean_environment(home, **broker.environment)
        for number, words in enumerate(("one", "two"), start=1):
            with Terminal(environment, tmp_path) as terminal:
                terminal.run(f"{codex} {words}; echo ended with $?")
                terminal.until(turn_ended(words, release))
                leave(terminal)
            stats = issuer.stats()
            assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (number, 0)
            refuse_access(issuer, home)
        assert daemon("version", codex, environment).returncode == 0
        daemon("stop", codex, environment)
