"""The recipes of docs/credential-helper.md, as they stand there, with the programs that they are for."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.brokers import BrokerService
from support.codex_binaries import NEW
from support.paths import REPO
from support.real_parts import RealParts
from support.vaults import add_account
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PAGE = (REPO / "docs" / "credential-helper.md").read_text(encoding="utf-8")
NAME = "credential-helper.md"
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    return found


@pytest.fixture
def program_folder(tmp_path: Path) -> Path:
    """A folder for PATH, with `authstate`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "authstate").write_text(f'#!/bin/sh\nexec {shlex.join(AUTHSTATE)} "$@"\n')
    (folder / "authstate").chmod(0o755)
    return folder


def environment_of(home: Path, issuer: LoopbackIssuer, programs: Path, **more: str) -> dict[str, str]:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return clean_environment(home, **{**issuer.environment, "PATH": path, **more})


def start(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def run(command: list[str], environment: dict[str, str]) -> str:
    done = start(command, environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_codex_runs_the_command_for_the_token_of_its_provider(
    binaries: dict[str, Path], make_home: MakeHome, tmp_path: Path, program_folder: Path, issuer: LoopbackIssuer
) -> None:
    [config] = blocks("toml")
    assert tomllib.loads(config)["model_providers"]["company"]["auth"]["command"] == "authstate"
    home = make_home(**PERSON)
    codex_home = tmp_path / "codex-home"
    codex_home.mkdir()
    config = config.replace("https://models.example.com/v1", f"{issuer.backend_url}/codex")
    helper = json.dumps(f"CODEX_HOME={shlex.quote(str(home))} exec authstate token --min-lifetime 600")
    assert tomllib.loads(config)["model_providers"]["company"]["auth"]["timeout_ms"] > 60_000
    config = config.replace('"authstate"', '"/bin/sh"').replace(
        '["token", "--min-lifetime", "600"]', f'["-c", {helper}]'
    )
    (codex_home / "config.toml").write_text(f'model = "gpt-5"\n{config}')
    environment = environment_of(codex_home, issuer, program_folder)
    done = subprocess.run(
        [str(binaries[NEW]), "exec", "--skip-git-repo-check", "hi"],
        cwd=codex_home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    assert issuer.stats()["refreshes_accepted"] == 1


@pytest.mark.parametrize("program", blocks("python"), ids=["command", "engine"])
def test_the_client_of_openai_gets_the_token_from_a_function(
    program: str, real_parts: RealParts, make_home: MakeHome, program_folder: Path, issuer: LoopbackIssuer
) -> None:
    more = {"BASE_URL": f"{issuer.backend_url}/codex", "PYTHONPATH": str(real_parts.api_client())}
    environment = environment_of(make_home(**PERSON), issuer, program_folder, **more)
    assert run([sys.executable, "-c", program], environment) == "You said: hello\n"
    assert issuer.stats()["refreshes_accepted"] == 1


async def test_claude_code_gets_one_line_and_nothing_else(
    make_home: MakeHome, program_folder: Path, issuer: LoopbackIssuer
) -> None:
    """The contract of `apiKeyHelper`: a shell command whose output is the key, and an exit status."""
    [settings] = [json.loads(block) for block in blocks("json") if "apiKeyHelper" in block]
    home = make_home()
    await add_account(home, issuer, "claude-key", **PERSON)
    environment = environment_of(home, issuer, program_folder)
    key = run(["/bin/sh", "-c", settings["apiKeyHelper"]], environment)
    assert key == key.strip() + "\n"
    assert len(key.split()) == 1
    refused = start(["/bin/sh", "-c", settings["apiKeyHelper"].replace("claude-key", "home")], environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1


DOCKER = """
import os, subprocess, sys
assert sys.argv[1:3] == ["run", "--rm"]
option, value, image, *command = sys.argv[3:]
if option == "--env-file":
    inside = dict(line.split("=", 1) for line in open(value).read().splitlines())
else:
    assert option == "-e"
    inside = {value: os.environ[value]}
assert image == "IMAGE"
sys.exit(subprocess.call(command, env={"PATH": os.environ["PATH"], **inside}))
"""
"""Gives a command the environment that docker would give it: it takes what follows the first `=` as it is."""


def test_the_lines_for_a_shell(make_home: MakeHome, program_folder: Path, issuer: LoopbackIssuer) -> None:
    curls, socket, variables = (block.splitlines() for block in blocks("sh"))
    docker = program_folder / "docker"
    docker.write_text(f"#!{sys.executable}\n{DOCKER}")
    docker.chmod(0o755)
    home = make_home(**PERSON)
    environment = environment_of(home, issuer, program_folder, NO_PROXY="*")
    for line in curls:
        usage = line.replace("https://chatgpt.com/backend-api", issuer.backend_url)
        assert json.loads(run(["bash", "-c", usage], environment))["plan_type"]
    token = json.loads((home / "auth.json").read_text())["tokens"]["access_token"]
    evaluated, *in_docker = variables
    assert run(["bash", "-c", f'{evaluated} && echo "$AUTHSTATE_TOKEN"'], environment) == f"{token}\n"
    for line in in_docker:
        assert run(["bash", "-c", line], environment) == f"{token}\n"
    with BrokerService(home, issuer) as broker:
        for line in socket:
            asked = line.replace("~/.codex/authstate/broker.sock", str(broker.socket))
            assert run(["bash", "-c", asked], environment) == f"{token}\n"
    assert issuer.stats()["refreshes_accepted"] == 1


def test_the_line_for_a_shell_fails_if_there_is_no_token(
    make_home: MakeHome, program_folder: Path, issuer: LoopbackIssuer
) -> None:
    line = blocks("sh")[-1].splitlines()[0]
    environment = environment_of(make_home(), issuer, program_folder, AUTHSTATE_TOKEN="of yesterday")
    assert start(["bash", "-c", line], environment).returncode == 1
