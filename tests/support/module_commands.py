"""How to run a module of the tests as a program: the command and the environment."""

import os
import sys

from support.paths import TESTS


def command_of(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the tests, such as `faults.kill_sweep`."""
    return [sys.executable, "-m", module, *arguments]


def with_tests(environment: dict[str, str] | None = None) -> dict[str, str]:
    """Add the tests to the PYTHONPATH of an environment. The default is the environment of this process."""
    environment = dict(os.environ if environment is None else environment)
    known = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *([known] if known else [])])
    return environment
