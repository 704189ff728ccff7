"""The shell lines of docs/broker.md, as they stand there, in one home and in the order of the page.

codex is the real one. docker, ssh and scp are stand-ins that keep what matters here: which environment and which files
a codex in the other place has. Lines that match `NOT_RUN` are of other programs, or need a database:
tests/unit/adapters/postgres/test_store_option.py runs such commands.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.brokers import BrokerService
from support.codex_binaries import NEW
from support.codex_turns import model_config
from support.paths import REPO
from support.vaults import add_account
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.cli.main import parse_command
from authstate.adapters.cli.parser import parse
from authstate.testing import LoopbackIssuer

PAGE = (REPO / "docs" / "broker.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
NOT_RUN = re.compile(r"pip install .*|systemctl --user enable --now authstate-broker|authstate .* --store .*")
SERVES = re.compile(r"authstate broker( --listen .*)?")
"""The test runs the broker itself, on a port of its own."""

STAND_INS = {
    "docker": """
import os, subprocess, sys
words, home = sys.argv[2:], ""
environment = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "AUTHSTATE_"))}
while words[0].startswith("-"):
    option = words.pop(0)
    if option == "--env-file":
        lines = open(words.pop(0)).read().splitlines()
        environment.update(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    elif option == "-v":
        home = words.pop(0).partition(":")[0]
    elif option in ("-e", "--network"):
        words.pop(0)
environment["CODEX_HOME"] = home
sys.exit(subprocess.call(words[1:], env=environment))
""",
    "ssh": "import sys; assert sys.argv[1:2] == ['-R']",
    "scp": "import shutil, sys; shutil.copytree(sys.argv[2], sys.argv[3].partition(':')[2])",
    "npx": "import os; assert os.environ['CODEX_REFRESH_TOKEN_URL_OVERRIDE'].startswith('http://127.0.0.1:')",
    "nightly.sh": "import os; assert os.environ['AUTHSTATE_BROKER_URL']",
}
"""Python programs in the place of others."""


def test_every_line_of_authstate_is_a_valid_command() -> None:
    for line in LINES:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if "authstate" in words:
            words = words[words.index("authstate") + 1 :]
            if parse_command(words, "run", "") is None:
                parse(words)


@pytest.fixture
def programs(tmp_path: Path, binaries: dict[str, Path]) -> Path:
    """A folder of programs: codex, authstate and the stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "codex").symlink_to(binaries[NEW])
    python = AUTHSTATE[0]
    scripts = {name: f"#!{python}\n{text}" for name, text in STAND_INS.items()}
    scripts["authstate"] = f'#!/bin/sh\nexec {shlex.join(AUTHSTATE)} "$@"\n'
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (tmp_path / "nightly.sh").symlink_to(folder / "nightly.sh")
    return folder


async def test_the_lines_of_the_page_work(
    tmp_path: Path, programs: Path, make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    person = {"email": "person@example.com", "account_id": "org-person"}
    home = make_home(config=model_config(issuer) + "[notice]\nhide_full_access_warning = true\n", **person)
    await add_account(home, issuer, "work", email="work@example.com", account_id="org-work")
    ci = make_home(config=model_config(issuer), email="ci@example.com", account_id="org-ci")
    (tmp_path / ".config" / "systemd" / "user").mkdir(parents=True)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment(home, **issuer.environment, PATH=path, HOME=str(tmp_path))
    ran = run_lines(tmp_path, home, ci, environment, issuer)
    assert ran == [line for line in LINES if not NOT_RUN.fullmatch(line) and not SERVES.fullmatch(line)]
    assert issuer.stats()["refreshes_refused"] == 0


def run_lines(folder: Path, home: Path, ci: Path, environment: dict[str, str], issuer: LoopbackIssuer) -> list[str]:
    """Run each line in a shell. What a line exports holds for those that follow. Returns those that ran."""
    ran: list[str] = []
    with BrokerService(home, issuer) as broker:
        for line in LINES:
            if NOT_RUN.fullmatch(line) or SERVES.fullmatch(line):
                continue
            command = adapted(line, broker.url, ci, environment)
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                environment = {**environment, name: value}
            else:
                run(command, folder, environment)
            if made := re.search(r"--into \./([\w-]+)", command):  # so that codex there uses the loopback backend
                shutil.copy(home / "config.toml", folder / made[1] / "config.toml")
            ran.append(line)
    return ran


def adapted(line: str, url: str, ci: Path, environment: dict[str, str]) -> str:
    """The line with what differs for each reader: the port of the broker, folders, and the id of a lease."""
    command = line.replace("http://127.0.0.1:4517", url).replace("/srv/ci-login", str(ci))
    if "--broker-url https" in line:  # the certificate is the reader's
        return command.replace("https://host.docker.internal:4518", url).replace("agent-home", "agent-home-2")
    command = command.replace("authstate lease new", f"authstate lease new --broker-url {url}")
    if line.endswith("-- codex"):  # a terminal program
        command += " exec hi"
    if "lease end" in line:
        command = command.replace("1f2e3d4c", newest_lease(environment))
    if "--skip-git-repo-check" not in line:
        command = command.replace("codex exec", "codex exec --skip-git-repo-check")
    return command


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a shell line, which must succeed. Returns its output."""
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def newest_lease(environment: dict[str, str]) -> str:
    """The id of the newest lease."""
    leases: list[dict[str, str]] = json.loads(run("authstate lease list --json", Path("/"), environment))["leases"]
    return leases[-1]["id"]
