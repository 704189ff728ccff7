"""How long the import of a library takes, in a new process each, without the start of the interpreter."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

from benchmarks.comparison import Comparison, PeerMissing, compare

NAMES = ("import",)
_CONTENDERS = {
    "authstate": "import authstate",
    "authstate, with AuthEngine": "from authstate import AuthEngine",
    "authstate, with open_engine": "from authstate import open_engine",
    "google-auth": "import google.oauth2.credentials",
    "google-auth, with its HTTP client": "import google.oauth2.credentials, google.auth.transport.requests",
    "MSAL": "import msal",
    "azure-identity": "import azure.identity",
    "Authlib, for httpx": "import authlib.integrations.httpx_client",
    "httpx": "import httpx",
}


def measure(rounds: int) -> list[Comparison]:
    """Compare the imports."""
    contenders = {name: lambda statement=statement: _importing(statement) for name, statement in _CONTENDERS.items()}
    return [compare(NAMES[0], "ms", contenders, rounds, ours="authstate, with AuthEngine")]


def _importing(statement: str) -> Callable[[], float]:
    wanted = statement.split()[1].split(".")[0]
    if find_spec(wanted) is None:
        raise PeerMissing(f"{wanted} is not installed")
    program = f"from time import perf_counter as now; began = now()\n{statement}\nprint((now() - began) * 1000)"

    def sample() -> float:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return float(done.stdout)

    first = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if first.returncode:
        raise PeerMissing(first.stderr.strip().splitlines()[-1])
    return sample
