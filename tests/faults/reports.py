"""Runs a script of this folder in a process of its own and reads its report."""

import json
import os
import subprocess
from typing import Any

from support.module_commands import command_of, with_tests
from support.paths import OUTPUT


def report_of(module: str, *arguments: str, name: str) -> dict[str, Any]:
    """Run a module and return its report. A copy is written to test-output/NAME."""
    done = subprocess.run(
        command_of(module, *arguments), capture_output=True, text=True, timeout=500, env=with_tests(clean())
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert not done.stderr, done.stderr
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / name).write_text(done.stdout)
    return report


def clean(**more: str) -> dict[str, str]:
    """The environment without variables that change a login, plus those given."""
    noise = ("CODEX_", "OPENAI_", "COV_CORE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(noise)} | more
