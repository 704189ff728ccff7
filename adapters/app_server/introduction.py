"""The answer to `initialize`. Nothing here needs msgspec or the event loop, so that it is given before their import."""

import os
import sys

from authstate.engine.version import VERSION


def describe_server(name: str, version: str, home: str | os.PathLike[str]) -> dict[str, str]:
    """Return what a client that introduces itself is told: the result of `initialize`.

    Args:
        name, version: what the client says of itself.
        home: the CODEX_HOME that it is told.
    """
    system, architecture = platform()
    return {
        "userAgent": f"{name}/{VERSION} ({system}; {architecture}) authstate ({name}; {version})",
        "codexHome": os.fsencode(home).decode("utf-8", "replace"),  # JSON holds no other text
        "platformFamily": "windows" if sys.platform == "win32" else "unix",
        "platformOs": {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform),
    }


def platform() -> tuple[str, str]:
    """The operating system with its version, and the architecture, as the user agent shows them."""
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"Windows {version.major}.{version.minor}.{version.build}", os.environ.get("PROCESSOR_ARCHITECTURE", "?")
    names = os.uname()
    return f"{'Mac OS' if names.sysname == 'Darwin' else names.sysname} {names.release}", names.machine
