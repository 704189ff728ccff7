"""`authstate sandbox` as a process: what it prints, when it is ready, how it ends, and the command that it runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from support.processes import still_running
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.cli.exit_status import UsageError
from authstate.adapters.cli.parser import parse
from authstate.adapters.cli.sandbox import run_sandbox

COMMAND = (*AUTHSTATE, "sandbox")
SCRIPT = """
import json, os, sys, urllib.request
home, url = os.environ["CODEX_HOME"], os.environ["AUTHSTATE_SANDBOX_URL"]
logins = urllib.request.urlopen(url + "/sandbox/logins").read().decode()
auth = json.load(open(home + "/auth.json")) if os.path.exists(home + "/auth.json") else None
names = [name for name in os.environ if name.startswith(("CODEX_", "OPENAI_"))]
print(json.dumps({"home": home, "logins": json.loads(logins), "auth": auth, "names": names,
    "proxies": os.environ["NO_PROXY"], "mode": os.stat(home).st_mode & 0o777}))
sys.exit(int(sys.argv[1]))
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A sandbox that runs, until the end of the block."""
    process = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def lines_until_ready(output: IO[bytes]) -> list[str]:
    """The lines up to the one that says that it is ready."""
    lines: list[str] = []
    while not lines or not lines[-1].removeprefix("# ").startswith("ready http://127.0.0.1:"):
        line = output.readline()
        assert line, "it ended before it was ready"
        lines.append(line.decode().removesuffix("\n"))
    return lines


def ready(process: subprocess.Popen[bytes]) -> Any:
    """What a sandbox with --json prints."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def is_open(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **environment}
    return subprocess.run([*COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=60)


def test_json_is_one_line_and_tells_that_it_is_ready() -> None:
    with started("--json", "--until-eof") as process:
        told = ready(process)
        assert httpx.get(f"{told['control']}/environment", trust_env=False, timeout=60).json() == told
        home = Path(told["environment"]["CODEX_HOME"])
        assert (home / "config.toml").read_text() == told["configToml"]
        assert not (home / "auth.json").exists()
        output, _ = process.communicate(timeout=60)  # closes standard input
        assert (process.returncode, output) == (0, b"")
    assert not home.exists()
    assert not is_open(told["url"])


def test_a_shell_can_read_the_environment() -> None:
    with started("--format", "env", "--until-eof") as process:
        assert process.stdout is not None
        *exports, last = lines_until_ready(process.stdout)
        script = "\n".join([*exports, last, 'echo "$AUTHSTATE_SANDBOX_URL $CODEX_HOME"'])
        printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        url, home = printed.split()
        assert last == f"# ready {url}"
        assert Path(home, "config.toml").is_file()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_it_and_leaves_nothing(number: str) -> None:
    with started() as process:
        assert process.stdout is not None
        lines = lines_until_ready(process.stdout)
        [home] = [line.partition("=")[2] for line in lines if "export CODEX_HOME=" in line]
        assert Path(home).is_dir()
        process.send_signal(getattr(signal, number))
        assert process.wait(timeout=60) == 0
    assert not Path(home).exists()
    assert any("/sandbox/expire" in line for line in lines)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not a child, as Linux can")
def test_it_does_not_outlive_the_program_that_started_it() -> None:
    script = f"""
import subprocess, sys
child = subprocess.Popen({[*COMMAND, "--json", "--until-eof"]!r}, stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        first, second = sorted((parent.stdout.readline(), parent.stdout.readline()), key=len)
        home = json.loads(second)["environment"]["CODEX_HOME"]
        parent.kill()
    assert still_running([int(first)]) == []
    assert not Path(home).exists()


def test_a_request_that_is_held_does_not_keep_it() -> None:
    with started("--json", "--until-eof") as process:
        told = ready(process)
        httpx.post(f"{told['control']}/faults", json={"fault": "slow", "seconds": 600}, trust_env=False, timeout=60)
        host, port = told["url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET /oauth/authorize HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            httpx.get(f"{told['control']}/requests?after=1&wait=30", trust_env=False, timeout=90)
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_command_runs_in_it(tmp_path: Path) -> None:
    theirs = {"CODEX_API_KEY": "sk-of-the-person", "OPENAI_API_KEY": "sk-of-the-person", "NO_PROXY": "corp.example"}
    done = run("--signed-in", "bob", "--", sys.executable, "-c", SCRIPT, "7", CODEX_HOME=str(tmp_path), **theirs)
    assert done.returncode == 7
    assert re.fullmatch(r"authstate: the sandbox is at http://127\.0\.0\.1:\d+/: open it .*\n", done.stderr)
    seen = json.loads(done.stdout)
    assert not Path(seen["home"]).exists()
    assert seen["mode"] == 0o700
    assert (seen["auth"]["auth_mode"], seen["auth"]["tokens"]["account_id"]) == ("chatgpt", "org-bob")
    assert [(login["account"], login["works"]) for login in seen["logins"]["logins"]] == [("bob", True)]
    assert not {"CODEX_API_KEY", "OPENAI_API_KEY"} & set(seen["names"])
    assert seen["proxies"] == "corp.example,127.0.0.1,localhost"
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_a_signal_ends() -> None:
    done = run("--", sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == -signal.SIGTERM


def test_a_signal_reaches_the_command(tmp_path: Path) -> None:
    place = tmp_path / "home"
    script = f"""
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
pathlib.Path({str(place)!r}).write_text(os.environ["CODEX_HOME"])
print("running", flush=True)
signal.pause()
"""
    with started("--", sys.executable, "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 9
    assert not Path(place.read_text()).exists()


def test_a_command_that_does_not_exist() -> None:
    done = run("--", "no-such-program-of-anybody")
    assert done.returncode == 127
    assert done.stderr.endswith("authstate: cannot start no-such-program-of-anybody: there is no such program\n")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot be used (address already in use): take another" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--account", "two words"], "--account must be a name or an email, without spaces"),
        (["--account", "ada", "--account", "ada"], "--account names somebody twice"),
        (["--signed-in", "eve"], "--signed-in must be one of ada, bob"),
        (["--account", "eve", "--signed-in", "ada"], "--signed-in must be one of eve"),
        (["--until-eof", "--", "true"], "--until-eof is for a sandbox without a command"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_sandbox(parse(["sandbox", *arguments]))


def test_it_reads_no_configuration() -> None:
    with pytest.raises(UsageError, match="it takes no -c"):
        run_sandbox(parse(["-c", "model=1", "sandbox"]))


@pytest.mark.parametrize("port", ["-1", "65536", "http", "²"])
def test_a_port_that_is_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["sandbox", f"--port={port}"])
    assert "must be a port, from 0 to 65535" in capsys.readouterr().err


def test_authstate_signs_in_and_out_in_it(tmp_path: Path) -> None:
    """The commands of authstate, pointed at a sandbox by what it prints."""
    with started("--json", "--until-eof", "--account", "eve@corp.example") as process:
        told = ready(process)
        body = {"kind": "chatgpt", "expiresIn": -1}
        made = httpx.post(f"{told['control']}/logins", json=body, trust_env=False, timeout=60).json()
        (tmp_path / "auth.json").write_text(json.dumps(made["authJson"]))
        environ = clean_environment(tmp_path, **{**told["environment"], "CODEX_HOME": str(tmp_path)})
        status = subprocess.run([*AUTHSTATE, "status", "--json"], env=environ, capture_output=True, text=True)
        assert json.loads(status.stdout)["email"] == "eve@corp.example"
        token = subprocess.run([*AUTHSTATE, "token"], env=environ, capture_output=True, text=True)
        assert token.returncode == 0
        subprocess.run([*AUTHSTATE, "logout"], env=environ, check=True, capture_output=True)
        state = httpx.get(f"{told['control']}/state", trust_env=False, timeout=60).json()
        assert (state["counts"]["refreshes"], state["counts"]["revocations"]) == (1, 1)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_the_next_start_removes_what_a_killed_sandbox_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started("--json", "--until-eof", "--signed-in", "ada") as killed:
        left = Path(ready(killed)["environment"]["CODEX_HOME"])
        killed.kill()
        killed.wait()
    assert (left / "auth.json").is_file()
    with started("--json", "--until-eof") as other:
        home = Path(ready(other)["environment"]["CODEX_HOME"])
        assert [path.name for path in tmp_path.iterdir()] == [home.name]
    assert list(tmp_path.iterdir()) == []
