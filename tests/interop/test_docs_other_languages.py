"""docs/other-languages.md: its conversation is one that `authstate app-server` has, and its Node program works."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.paths import REPO
from support.simulated_browser import agree
from support.wire_client import AUTHSTATE, WireClient, clean_environment

from authstate.adapters.cli.main import parse_command
from authstate.testing import LoopbackIssuer

PAGE = (REPO / "docs" / "other-languages.md").read_text(encoding="utf-8")
SENT, RECEIVED = (
    [json.loads(line) for line in block.splitlines()]
    for block in re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
)
[PROGRAM] = re.findall(r"^```js\n(.*?)^```$", PAGE, re.M | re.S)
[PRINTED] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)


def shape(message: Any) -> Any:
    """A message without the values that differ from run to run: those that the page shows with `...`."""
    if isinstance(message, dict):
        return {name: shape(value) for name, value in message.items()}
    if isinstance(message, list):
        return [shape(one) for one in message]
    return "text" if isinstance(message, str) else message


def test_the_conversation_is_real(make_home: Callable[..., Path], issuer: LoopbackIssuer) -> None:
    with WireClient(AUTHSTATE, clean_environment(make_home(), **issuer.environment)) as front_end:
        answers: list[Any] = []
        for message in SENT:
            if "id" not in message:
                front_end.send(message)
                continue
            if message["id"] == 4:
                url = answers[-1]["authUrl"]
                agree(issuer, url, email="ada@example.com", plan="plus")
                completed = front_end.until("account/login/completed")
                updated = front_end.until("account/updated")
            answers.append(front_end.result(message["method"], message["params"]))
    told = [message["params"] for message in RECEIVED if "method" in message]
    assert [shape(completed), shape(updated)] == shape(told)
    assert shape(answers) == shape([message["result"] for message in RECEIVED if "id" in message])
    assert updated == told[1]
    assert answers[3] == RECEIVED[5]["result"]


@pytest.fixture
def run_node(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the program of the page on a home, with an `authstate` on its PATH."""
    node = shutil.which("node") or pytest.skip("there is no Node.js")
    launcher, script = tmp_path / "bin" / "authstate", tmp_path / "account.js"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m authstate "$@"\n')
    launcher.chmod(0o755)
    script.write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def start(home: Path, issuer: LoopbackIssuer) -> "subprocess.Popen[str]":
        environment = clean_environment(home, **issuer.environment)
        environment["PATH"] = f"{launcher.parent}:{environment['PATH']}"
        command = [node, str(script), f"{issuer.backend_url}/wham/usage"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_node_program_prints_what_the_page_says(
    run_node: Callable[..., "subprocess.Popen[str]"], make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    home = make_home(email="ada@example.com")
    issuer.expire_access()  # the first token is refused
    process = run_node(home, issuer)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, PRINTED), errors
    assert issuer.stats()["refreshes_accepted"] == 1


def test_the_node_program_waits_for_a_slow_refresh(
    run_node: Callable[..., "subprocess.Popen[str]"], make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    home = make_home(email="ada@example.com")
    issuer.expire_access()
    issuer.behave("refresh", delay=2.1, times=1)  # the server answers after 2 seconds
    process = run_node(home, issuer)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, PRINTED), errors
    assert issuer.stats()["refreshes_accepted"] == 1


def test_the_node_program_signs_a_person_in(
    run_node: Callable[..., "subprocess.Popen[str]"], make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    process = run_node(make_home(), issuer)
    assert process.stdout is not None
    word, url = process.stdout.readline().split()
    agree(issuer, url, email="ada@example.com")
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, word, printed) == (0, "open", PRINTED), errors


def test_the_node_program_signs_a_person_in_whose_login_was_revoked(
    run_node: Callable[..., "subprocess.Popen[str]"], make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    home = make_home(email="ada@example.com")
    issuer.expire_access()
    issuer.revoke()
    process = run_node(home, issuer)
    assert process.stdout is not None
    assert process.stdout.readline() == PRINTED.splitlines(keepends=True)[0]
    word, url = process.stdout.readline().split()
    agree(issuer, url, email="ada@example.com")
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, word, printed) == (0, "open", PRINTED.splitlines(keepends=True)[1]), errors


def test_the_commands_of_the_page_are_valid() -> None:
    [command] = re.findall(r"`authstate (sandbox [^`]*)`\.$", PAGE, re.M)
    assert parse_command(command.split(), "run", "") is None
    assert "-- sh -c 'node account.js \"$AUTHSTATE_SANDBOX_URL/backend-api/wham/usage\"'" in command
