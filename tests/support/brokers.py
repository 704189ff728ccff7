"""A broker in a process of its own, for codex processes that tests start themselves."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Self

from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

_WAIT = """
import json, os, sys
ours = {name: value for name, value in os.environ.items() if name.startswith(("CODEX_", "AUTHSTATE_"))}
print(json.dumps(ours), flush=True)
sys.stdin.read()
"""


_PATIENT = """
import os, sys
from pathlib import Path
from authstate.adapters.broker.token_grants import TokenGrants
from authstate.adapters.cli.main import main

assert callable(TokenGrants._is_just_new), "it has another name now"
mark = Path(os.environ["CODEX_HOME"], "refused-at")
TokenGrants._is_just_new = lambda _, tokens: not mark.exists() or tokens.last_refresh >= float(mark.read_text())
sys.exit(main())
"""
PATIENT_AUTHSTATE = (sys.executable, "-c", _PATIENT)
"""An authstate whose broker takes a new access token for a good one until `refuse_access`, and not for half a second
(`JUST_NOW`). From 0.169.0 on, codex asks once more if a request of its is refused after it has the new token; on a busy
machine that comes later, and costs one more refresh. For tests that count refreshes.
"""


def refuse_access(issuer: LoopbackIssuer, home: Path) -> None:
    """Let the backend refuse the access token, and the broker of this home no longer take it for a new one.

    Args:
        issuer: gave it.
        home: of a broker that runs with PATIENT_AUTHSTATE.
    """
    mark = home / "refused-at"
    mark.with_suffix(".new").write_text(str(time()))
    mark.with_suffix(".new").replace(mark)
    issuer.expire_access()


class RunningBroker:
    """The broker of an `authstate run` whose command waits. Use it as a context manager.

    Args:
        home: the home whose vault it serves.
        issuer: where it refreshes.
        program: AUTHSTATE or PATIENT_AUTHSTATE.
    """

    def __init__(self, home: Path, issuer: LoopbackIssuer, program: Sequence[str] = AUTHSTATE) -> None:
        self._process = subprocess.Popen(
            [*program, "run", "--", sys.executable, "-c", _WAIT],
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


class BrokerService:
    """A running `authstate broker` on a loopback port that the system chooses. Use it as a context manager.

    Args:
        home: the home whose vault it serves.
        issuer: where it refreshes.
        arguments: more arguments of the command.
        listen: the address.
        program: AUTHSTATE or PATIENT_AUTHSTATE.
        environment: more variables.
    """

    def __init__(
        self,
        home: Path,
        issuer: LoopbackIssuer,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        program: Sequence[str] = AUTHSTATE,
        **environment: str,
    ) -> None:
        self.process = subprocess.Popen(
            [*program, "broker", "--listen", listen, *arguments],
            env=clean_environment(home, **issuer.environment, **environment),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.log = line = ""
        while " serves " not in line:  # in asyncio's debug mode, other lines may come first
            line = self.process.stderr.readline()
            assert line, f"the broker ended: {self.log}"
            self.log += line
        self._reader = threading.Thread(target=self._read, daemon=True)  # a full pipe would stop the broker
        self._reader.start()
        self.url = line.partition(" serves ")[2].split()[0]
        self.socket = home / "authstate" / "broker.sock"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, if it runs. Returns its exit status; `log` is then what it wrote."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end. Returns its exit status; `log` is then what it wrote."""
        self._reader.join(timeout=60)
        return self.process.wait(timeout=60)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log += line
