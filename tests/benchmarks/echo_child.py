"""A child that costs nothing: it takes the handshake, and then sends back what it gets, as fast as a pipe can."""

from pathlib import Path

_SCRIPT = """#!/bin/sh
read -r line
echo '{"id":1,"result":{"userAgent":"echo/1.0"}}'
exec cat
"""


def make(folder: Path) -> list[str]:
    """Write the child into a folder. Returns the command that starts it."""
    path = folder / "echo-child"
    path.write_text(_SCRIPT)
    path.chmod(0o755)
    return [str(path), "app-server"]
