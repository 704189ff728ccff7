"""The answer to `initialize`. Nothing here needs the event loop, so that it can be given before asyncio is imported."""

import os
import sys
from pathlib import Path

from authstate.adapters.app_server.wire import InitializeParams, InitializeResult, ParamsDecoder
from authstate.engine.version import VERSION

read_introduction: ParamsDecoder[InitializeParams] = ParamsDecoder[InitializeParams](InitializeParams)
"""Decodes the params of `initialize`. Raises RpcError."""


def answer_introduction(params: InitializeParams, home: Path) -> InitializeResult:
    """Return what a client that introduces itself is told.

    Args:
        params: what it says of itself.
        home: the CODEX_HOME that it is told.
    """
    info = params.client_info
    system, architecture = platform()
    return InitializeResult(
        user_agent=f"{info.name}/{VERSION} ({system}; {architecture}) authstate ({info.name}; {info.version})",
        codex_home=os.fsencode(home).decode("utf-8", "replace"),  # JSON holds no other text
        platform_family="windows" if sys.platform == "win32" else "unix",
        platform_os={"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform),
    )


def platform() -> tuple[str, str]:
    """The operating system with its version, and the architecture, as the user agent shows them."""
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"Windows {version.major}.{version.minor}.{version.build}", os.environ.get("PROCESSOR_ARCHITECTURE", "?")
    names = os.uname()
    return f"{'Mac OS' if names.sysname == 'Darwin' else names.sysname} {names.release}", names.machine
