"""docs/sandbox.md: its curl lines, its Node program and its tables are true."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from support.paths import REPO
from support.sandbox_client import SandboxClient
from support.wire_client import AUTHSTATE, WireClient, clean_environment

from authstate.adapters.cli.main import parse_command
from authstate.adapters.cli.parser import parse
from authstate.adapters.sandbox import seen_requests
from authstate.adapters.sandbox.control import Control
from authstate.adapters.sandbox.faults import Endpoint, Fault
from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.server import RunningSandbox

PAGE = (REPO / "docs" / "sandbox.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
CURLS = [line for line in LINES if line.startswith("curl ")]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RunningSandbox]:
    with RunningSandbox(tmp_path) as started:
        fill(tmp_path, started, "ada")
        yield started


@pytest.fixture
def control(sandbox: RunningSandbox) -> Iterator[SandboxClient]:
    with httpx.Client(base_url=sandbox.pointing.url, trust_env=False, timeout=30) as http:
        yield SandboxClient(http)


def endpoints_of(control: Control) -> set[str]:
    """Every method and path of the control API."""
    routes: dict[str, dict[str, Any]] = control._routes
    return {f"{method} /sandbox/{path}" for path, methods in routes.items() for method in methods}


def endpoint_of(line: str) -> str:
    """The method and the path of a curl line."""
    [path] = re.findall(r"(/sandbox/[\w-]+)", line)
    [method] = re.findall(r"-X (\w+)", line) or ["POST" if " -d " in line else "GET"]
    return f"{method} {path}"


def test_the_page_names_every_endpoint_and_has_a_curl_line_for_each(sandbox: RunningSandbox) -> None:
    known = endpoints_of(sandbox._server.control)
    assert set(re.findall(r"^\| `((?:GET|POST|DELETE) /sandbox/[\w-]+)` \|", PAGE, re.M)) == known
    assert [endpoint_of(line) for line in CURLS] == list(dict.fromkeys(map(endpoint_of, CURLS)))
    assert set(map(endpoint_of, CURLS)) == known


def test_every_curl_line_works(sandbox: RunningSandbox, control: SandboxClient, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    environment = clean_environment(tmp_path, **sandbox.pointing.environment)
    control.http.post("/api/accounts/deviceauth/usercode", json={})
    with WireClient(AUTHSTATE, environment) as front_end:
        front_end.initialize()
        opened = front_end.result("account/login/start", {"type": "chatgpt"})
        for line in CURLS:
            command = line.replace("curl -sS", "curl -sS --fail-with-body")
            environ = {**environment, "AUTH_URL": opened["authUrl"]}
            done = subprocess.run(command, shell=True, env=environ, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            json.loads(done.stdout)
        assert front_end.until("account/login/completed")["success"]


def test_the_other_lines_are_commands_of_authstate() -> None:
    for line in LINES:
        if line not in CURLS:
            words = line.split()
            assert words[:2] == ["authstate", "sandbox"]
            assert parse_command(words[1:], "run", "") is None
            assert parse(words[1:]).command == "sandbox"


def test_the_node_program_prints_what_the_page_says(tmp_path: Path) -> None:
    node = shutil.which("node") or pytest.skip("there is no Node.js")
    [program] = re.findall(r"^```js\n(.*?)^```$", PAGE, re.M | re.S)
    [printed] = re.findall(r"^```js\n.*?^```\n\nIt prints:\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)
    launcher = tmp_path / "authstate"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m authstate "$@"\n')
    launcher.chmod(0o755)
    environment = clean_environment(tmp_path)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    ran = subprocess.run([node, "-e", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, printed), ran.stderr


def test_the_object_has_the_members_that_the_page_shows(sandbox: RunningSandbox) -> None:
    [text] = re.findall(r"^```json\n(\{\n.*?)^```$", PAGE, re.M | re.S)
    shown, real = json.loads(text), sandbox.pointing.as_json()
    assert shown.keys() == real.keys()
    assert shown["environment"].keys() == real["environment"].keys()
    own = json.loads(json.dumps(real).replace(sandbox.pointing.url, shown["url"]))
    assert {**own["environment"], "CODEX_HOME": shown["environment"]["CODEX_HOME"]} == shown["environment"]
    assert own["overrides"][:1] == shown["overrides"]
    assert own["configToml"].startswith(shown["configToml"])
    assert own["model"] == shown["model"]


def test_the_page_names_every_fault_endpoint_option_and_error(sandbox: RunningSandbox) -> None:
    assert re.findall(r"^\| `(\w+)` \| it ", PAGE, re.M) == list(Fault)
    for endpoint in get_args(Endpoint):
        assert f"`{endpoint}`" in PAGE
    codes = set()
    for module in ("control.py", "origin.py"):
        text = (REPO / "adapters" / "sandbox" / module).read_text(encoding="utf-8")
        codes |= set(re.findall(r'\d{3}, "([a-z_]+)"', text))
    assert set(re.findall(r"^\| `([a-z_]+)` \| \d{3}", PAGE, re.M)) == codes
    usage = subprocess.run([*AUTHSTATE, "sandbox", "--help"], capture_output=True, text=True).stdout
    for option in re.findall(r"--[a-z]+(?:-[a-z]+)*", usage):
        assert f"`{option}" in PAGE or option == "--help"
    assert f"the last {seen_requests.MOST_KEPT:,}" in PAGE


async def test_the_counts_are_those_of_the_page(control: SandboxClient) -> None:
    sentence = PAGE.partition("`counts` has ")[2].partition(": how often")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(await asyncio.to_thread(control.counts))


def test_the_first_program_of_the_readme_runs_in_the_sandbox(tmp_path: Path) -> None:
    page = (REPO / "README.md").read_text(encoding="utf-8")
    program = tmp_path / "first.py"
    program.write_text(re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)[0], encoding="utf-8")
    command = [*AUTHSTATE, "sandbox", "--signed-in", "ada", "--", sys.executable, str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, "ada@example.com (workspace org-ada) 200\n"), ran.stderr
    assert "`.venv/bin/authstate sandbox --signed-in ada -- .venv/bin/python first.py`" in page
    assert "`ada@example.com (workspace org-ada) 200`" in page
