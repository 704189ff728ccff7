"""Every code block in README.md and docs/ is executed, or checked against what it speaks of."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from repository.test_source_tree import GENERATED
from support.paths import REPO

from authstate.adapters.child.command_line import ephemeral_command
from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.main import parse_command
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
from authstate.adapters.testing.tokens import make_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.events import Event

COMMANDS = (
    "python3.11 -m venv .venv && .venv/bin/pip install . && .venv/bin/authstate demo",
    "python3.11 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest",
    "pip install -e '.[bench]' && cd tests && python -m benchmarks",
    "cd tests && python -m benchmarks.postgres_load",
    "cd tests && python -m benchmarks.postgres_load --sql "
    "'DROP INDEX authstate.refresh_claims_number, authstate.refresh_claims_open'",
)


yaml: Any = pytest.importorskip("yaml", reason="PyYAML of the test extra parses these blocks")


class Block(NamedTuple):
    page: str
    language: str
    text: str
    output: str | None
    """What the page says that it prints."""


def blocks() -> Iterator[Block]:
    for path in (REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))):
        found = re.findall(r"(It prints:\n\n)?^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
        for index, (is_output, language, text) in enumerate(found):
            if is_output:
                continue
            follows = found[index + 1] if index + 1 < len(found) else ("", "", "")
            yield Block(path.name, language, text, follows[2] if follows[0] else None)


ALL = list(blocks())
WITH_CODEX = {
    "credential-helper.md": "test_docs_credential_helper.py",
    "service.md": "test_docs_service.py",
    "wrapping.md": "test_docs_wrapping.py",
}
"""Pages whose Python needs a real codex, and the interop test that runs it."""
RUN_AS_SHELL = ("broker-api.md", "broker.md", "compose.md", "credential-helper.md", "postgres.md", "sandbox.md")
"""Pages whose shell lines a test of their own runs."""
RUN_BY_PYTEST = ("testing.md",)
"""Pages whose Python is tests: tests/unit/adapters/testing/test_docs_testing.py runs them."""
RECIPES = {
    "async-service.md": "test_docs_async_service.py",
    "gui.md": "test_docs_gui.py",
    "http-clients.md": "test_docs_http_clients.py",
    "postgres.md": "test_docs_postgres.py",
}
"""Pages whose Python is for other libraries or a database, and the test that runs each block."""
SERVICES = {"hosted.md": "test_docs_hosted.py"}
"""Pages with a program on FastAPI, which an interop test runs, beside programs that run here."""
RUN_ELSEWHERE = {*WITH_CODEX, *RUN_BY_PYTEST, *RECIPES}
NOBODY = "nobody is signed in, because there is no login in the memory of this process: sign in first"
PYTHON = [
    block
    for block in ALL
    if block.language == "python"
    and block.page not in RUN_ELSEWHERE
    and not (block.page in SERVICES and "fastapi" in block.text)
]


def name_of(block: Block) -> str:
    return f"{block.page}-{block.language}-{block.text.splitlines()[0][:30]}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        yield started


@pytest.fixture
def environment(tmp_path: Path, issuer: LoopbackIssuer) -> dict[str, str]:
    """The environment of somebody who signed in, with the issuer and the backend on loopback."""

    async def sign_in() -> None:
        async with AuthJsonStore(tmp_path).locked() as held:
            await held.save(read_login(issuer.seed()))

    asyncio.run(sign_in())
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "COV_CORE_"))}
    return {**clean, **issuer.environment, "CODEX_HOME": str(tmp_path)}


@pytest.mark.parametrize("block", PYTHON, ids=name_of)
def test_python_runs(block: Block, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", block.text]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    if block.output is not None:
        assert ran.stdout == block.output


async def test_the_recovery_by_hand_works() -> None:
    [text] = [block.text for block in PYTHON if "send_and_explain" in block.text]
    names: dict[str, Any] = {}
    exec(compile(text, "embedding.md", "exec"), names)
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    refused = {f"Bearer {tokens.access_token.reveal()}"}

    async def request(headers: dict[str, str]) -> int:
        return 401 if headers["Authorization"] in refused else 200

    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        assert await names["send_and_explain"](engine, request) == "status 200"
        refused.add((await engine.authorization()).headers()["Authorization"])
        authority.kill()
        assert (await names["send_and_explain"](engine, request)).startswith("sign in again: Your sign-in was revoked")
        await engine.log_out()
        assert await names["send_and_explain"](engine, request) == "sign in: " + NOBODY
        await engine.use_api_key(ApiKey.parse("sk-refused"))
        refused.add("Bearer sk-refused")
        assert (await names["send_and_explain"](engine, request)).startswith("sign in again: ")


def test_the_page_for_embedders_names_all_that_an_engine_can_do() -> None:
    page = (REPO / "docs" / "embedding.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    assert {name for name in dir(engine) if not name.startswith("_")} - named == set()
    assert {event.__name__ for event in get_args(Event)} - named == set()


@pytest.mark.parametrize("block", [block for block in ALL if block.language != "python"], ids=name_of)
def test_other_blocks_are_true(block: Block) -> None:
    if block.language == "mermaid":
        assert block.text.startswith("flowchart")
    elif block.language == "sh" and block.page not in RUN_AS_SHELL:
        for line in block.text.splitlines():
            assert line in COMMANDS or line.startswith("authstate ")
            if wrapped := parse_command(line.split()[1:], "wrap", ""):
                assert ephemeral_command(wrapped[1])[-1] == "app-server"
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language in ("json", "jsonl"):
        for text in block.text.splitlines() if block.language == "jsonl" else [block.text]:
            json.loads(text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "js":
        assert block.page in ("other-languages.md", "sandbox.md"), "test_docs_PAGE.py runs it"
    elif block.language != "sh":
        known = {path.name for path in files_of_the_project()}
        assert [name for name in re.findall(r"[\w.]+\.(?:py|md|json|toml)\b", block.text) if name not in known] == []


def files_of_the_project() -> Iterator[Path]:
    """Every file but those that tools write, also while this looks: `rglob` fails if a folder vanishes meanwhile."""
    for folder, folders, names in os.walk(REPO):
        folders[:] = [name for name in folders if name not in GENERATED and not name.endswith("_cache")]
        yield from (Path(folder, name) for name in names)


@pytest.mark.parametrize(("page", "test"), WITH_CODEX.items())
def test_what_needs_a_codex_is_run_by_a_test_of_its_own(page: str, test: str) -> None:
    for block in (block for block in ALL if block.page == page and block.language == "python"):
        compile(block.text, page, "exec")
    text = (REPO / "tests" / "interop" / test).read_text(encoding="utf-8")
    assert f'"{page}"' in text
    assert '[sys.executable, "-c", program' in text


def test_the_readme_has_the_two_commands_and_ci_runs_the_second_with_coverage() -> None:
    shell = [block.text.strip() for block in ALL if block.page == "README.md" and block.language == "sh"]
    assert shell == list(COMMANDS[:2])
    script = (REPO / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script[0] == "#!/usr/bin/env bash"
    commands = [line for line in script if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', f"{COMMANDS[1]} --cov -n 2 --dist loadfile"]
    assert os.access(REPO / ".ci" / "run", os.X_OK)


PAGES = sorted(path for path in files_of_the_project() if path.suffix == ".md")


def anchors(path: Path) -> set[str]:
    """What a link to a place in a page may name, as GitHub makes it of the headings."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(REPO).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(page), f"{path.name} links to {target}#{anchor}"
