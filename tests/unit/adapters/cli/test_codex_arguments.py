"""Which command lines start the terminal program of codex, and what is added to them. A help page stands for codex."""

import os
from pathlib import Path

import pytest

from authstate.adapters.cli.codex_arguments import starts_app_server, uses_login, without_daemon

PAGE = """
Commands:
  agents            Open the agent command center
  exec              Run Codex non-interactively [aliases: e]
  app-server        [experimental] Run the app server
  apply             Apply the latest diff produced by Codex agent as a `git apply` to your local
                    working tree [aliases: a]
  resume            Resume a previous interactive session
  help              Print this message

Options:
  -c, --config <key=value>
  -i, --image <FILE>...
  -m, --model <MODEL>
      --remote <ADDR>
      --search
"""


def codex(path: Path, page: str) -> str:
    """A program that only has a help page."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{page}\nEND\n")
    path.chmod(0o755)
    return str(path)


pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script stands for codex")
TERMINAL = (
    *("", "hello", "hello there", "-m exec", "-m gpt-5 resume", "resume --last", "agents", "--search hello"),
    *("-i a.png exec", "-i a.png b.png resume", "-- exec", "-- --remote", "-- --help", "hello -- --no-daemon"),
)
OTHER = (
    *("exec hello", "e hello", "a", "apply", "-m gpt-5 exec hello", "exec -- resume", "--image=a.png exec hello"),
    *("-i a.png --search exec hello", "app-server daemon start", "--help", "-V", "resume --help", "help"),
    *("--remote unix:// hello", "resume --remote=ws://127.0.0.1:1", "--no-daemon", "--no-daemon resume"),
)


@pytest.mark.parametrize(("line", "starts"), [*((line, True) for line in TERMINAL), *((line, False) for line in OTHER)])
def test_which_command_lines_get_the_option(line: str, starts: bool, tmp_path: Path) -> None:
    program = codex(tmp_path / "codex", PAGE + "      --no-daemon\n")
    words = line.split()
    assert without_daemon([program, *words]) == [program, *(["--no-daemon"] if starts else []), *words]


def test_an_older_codex_does_not_know_the_option(tmp_path: Path) -> None:
    program = codex(tmp_path / "codex", PAGE)
    assert without_daemon([program, "hello"]) == [program, "hello"]


@pytest.mark.parametrize(
    ("name", "is_codex", "changed"),
    [
        ("codex", None, True),
        ("codex-x86_64-unknown-linux-musl", None, True),
        ("codex-acp", None, False),
        ("codex-nightly", None, False),
        ("codex-nightly", True, True),
        ("codex", False, False),
    ],
)
def test_which_programs_are_codex(name: str, is_codex: bool | None, changed: bool, tmp_path: Path) -> None:
    program = codex(tmp_path / name, PAGE + "      --no-daemon\n")
    assert ("--no-daemon" in without_daemon([program, "hello"], is_codex=is_codex)) is changed


def test_a_codex_that_cannot_be_asked_is_no_error(tmp_path: Path) -> None:
    command = [str(tmp_path / "codex"), "hello"]
    assert without_daemon(command) == command


def test_a_prompt_or_an_image_is_no_subcommand(tmp_path: Path) -> None:
    program = codex(tmp_path / "codex", PAGE)
    assert not starts_app_server(["-i", "a.png", "app-server"], program)
    assert starts_app_server(["-i", "a.png", "--search", "app-server"], program)
    assert not starts_app_server(["--", "app-server"], program)
    assert uses_login(["--", "login"])
