"""Real parts: what is marked as needing them, and the script that installs them."""

import subprocess
import sys

import pytest
from support.codex_binaries import CannotInstall
from support.install_real_parts import PARTS, main
from support.paths import REPO


def test_the_script_names_what_it_cannot_install(capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> None:
        raise CannotInstall("there is no npm")

    assert main({"one": lambda: None, "two": missing}) == 1
    assert capsys.readouterr().out == "installed  one\nmissing    two: there is no npm\n"
    assert main({}) == 0
    assert {"Chromium", "codex 0.93.0", "gnome-keyring and D-Bus", "the Python SDK of codex"} <= set(PARTS)


def test_tests_are_marked_by_what_they_need() -> None:
    assert collected("tests/interop/test_codex.py", "not real_parts") == 0
    assert collected("tests/interop/test_stdio.py", "real_parts") == 0
    assert collected("tests/unit/engine/machines", "fast") == collected(
        "tests/unit/engine/machines", "not fast or fast"
    )


def collected(place: str, marks: str) -> int:
    """How many tests of a place have these marks."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", marks, place]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    return sum("::" in line for line in done.stdout.splitlines())
