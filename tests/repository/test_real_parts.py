"""Real parts: what is marked as needing them, and the script that installs them."""

import ast
import subprocess
import sys

import pytest
from support.codex_binaries import CannotInstall
from support.install_real_parts import PARTS, main
from support.paths import REPO, TESTS

INSTALLERS = {
    "codex_binaries": {"install"},
    "python_sdk": {"install", "install_api_client"},
    "codex_acp": {"install"},
    "debian": {"install", "chromium", "gnome_keyring", "systemd_analyze", "tmux", "xvfb", "bubblewrap"},
}
RUN_BY_A_PERSON = {TESTS / "interop" / name for name in ("fuzz_wrap.py", "broker_endurance.py")}


def test_the_script_names_what_it_cannot_install(capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> None:
        raise CannotInstall("there is no npm")

    assert main({"one": lambda: None, "two": missing}) == 1
    assert capsys.readouterr().out == "installed  one\nmissing    two: there is no npm\n"
    assert main({}) == 0
    assert {"Chromium", "codex 0.93.0", "gnome-keyring and D-Bus", "the Python SDK of codex"} <= set(PARTS)


def test_tests_are_marked_by_what_they_need() -> None:
    assert collected("tests/interop/test_codex.py", "not real_parts") == 0
    assert collected("tests/interop/test_app_server_process.py", "real_parts") == 0
    assert collected("tests/unit/engine/model", "not fast") == 0
    assert collected("tests/unit/engine/model", "fast") > 0


def test_a_test_installs_through_the_fixture_only() -> None:
    """The fixture `real_parts` is what gives a test its marker."""
    found = []
    for file in TESTS.rglob("*.py"):
        if file in RUN_BY_A_PERSON or any(file.is_relative_to(TESTS / name) for name in ("support", "benchmarks")):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("support"):
                names = {name.name for name in node.names}
                module = (node.module or "").removeprefix("support").lstrip(".")
                if names & (INSTALLERS.get(module, set()) if module else INSTALLERS.keys()):
                    found.append(f"{file.relative_to(TESTS)}:{node.lineno}")
    assert not found, f"use the fixture real_parts: {found}"


def collected(place: str, marks: str) -> int:
    """How many tests of a place have these marks."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", marks, place]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    return sum("::" in line for line in done.stdout.splitlines())
