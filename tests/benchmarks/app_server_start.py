"""`authstate app-server` beside two releases of codex: until `initialize` is answered, and until the first account is
read. The memory is the most that the process had in RAM until then.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks.comparison import Comparison
from support.codex_binaries import VERSIONS, CannotInstall, install

_FIELDS = {
    "app-server, until initialize is answered": ("ms", "initialize_ms"),
    "app-server, peak memory until then": ("MB", "initialize_mb"),
    "app-server, until the first account/read": ("ms", "read_ms"),
    "app-server, peak memory until that": ("MB", "read_mb"),
}
NAMES = tuple(_FIELDS)
_INITIALIZE = b'{"id":1,"method":"initialize","params":{"clientInfo":{"name":"benchmark","version":"1.0"}}}\n'
_READ = b'{"method":"initialized"}\n{"id":7,"method":"account/read","params":{"refreshToken":false}}\n'


class _Start(NamedTuple):
    initialize_ms: float
    initialize_mb: float
    read_ms: float
    read_mb: float


def measure(rounds: int) -> list[Comparison]:
    """Start each program in turns. Everybody is signed in with an API key, so that nobody needs a network."""
    script = shutil.which("authstate", path=str(Path(sys.executable).parent))
    commands: dict[str, Sequence[str]] = {"authstate": [script] if script else [sys.executable, "-m", "authstate"]}
    missing: dict[str, str] = {}
    for version in VERSIONS:
        try:
            commands[f"codex {version}"] = [str(install(version))]
        except CannotInstall as error:
            missing[f"codex {version}"] = str(error)
    starts: dict[str, list[_Start]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, command in commands.items():
                start = _start(command, _home(Path(folder), name))
                if number:
                    starts[name].append(start)
    return [
        Comparison(
            title,
            unit,
            "authstate",
            {name: [getattr(start, field) for start in found] for name, found in starts.items()},
            missing,
        )
        for title, (unit, field) in _FIELDS.items()
        if unit == "ms" or sys.platform == "linux"
    ]


def _home(folder: Path, name: str) -> Path:
    home = folder / name.replace(" ", "-")
    if not home.exists():
        home.mkdir()
        (home / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-benchmark-1"}))
        (home / "auth.json").chmod(0o600)
    return home


def _start(command: Sequence[str], home: Path) -> _Start:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    began = perf_counter()
    process = subprocess.Popen(
        [*command, "app-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "HOME": str(home), "CODEX_HOME": str(home), "TMPDIR": str(home)},
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(_INITIALIZE)
        _wait_for(process, 1)
        initialize = (perf_counter() - began) * 1000, _peak(process.pid)
        process.stdin.write(_READ)
        _wait_for(process, 7)
        return _Start(*initialize, (perf_counter() - began) * 1000, _peak(process.pid))
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _wait_for(process: "subprocess.Popen[bytes]", number: int) -> None:
    assert process.stdout is not None
    buffer = b""
    while True:
        data = os.read(process.stdout.fileno(), 65536)
        assert data, "the program ended before it answered"
        *lines, buffer = (buffer + data).split(b"\n")
        if any(message.get("id") == number and "method" not in message for message in map(json.loads, lines)):
            return


def _peak(pid: int) -> float:
    """The most that the process had in RAM, in MB. 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
