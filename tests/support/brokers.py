"""A broker in a process of its own, for codex processes that tests start themselves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.testing import LoopbackIssuer

_WAIT = """
import json, os, sys
ours = {name: value for name, value in os.environ.items() if name.startswith(("CODEX_", "AUTHSTATE_"))}
print(json.dumps(ours), flush=True)
sys.stdin.read()
"""


class RunningBroker:
    """The broker of an `authstate run` whose command waits. Use it as a context manager.

    Args:
        home: the home whose vault it serves.
        issuer: where it refreshes.
    """

    def __init__(self, home: Path, issuer: LoopbackIssuer) -> None:
        self._process = subprocess.Popen(
            [*AUTHSTATE, "run", "--", sys.executable, "-c", _WAIT],
            env=clean_environment(home, **issuer.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ours = json.loads(self._process.stdout.readline())
        del ours["CODEX_HOME"]
        self.environment: dict[str, str] = ours
        """The variables that make a codex process use it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
