"""Whether a browser can be opened for the person at this terminal, and opening it."""

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_TEXT_BROWSERS = ("elinks", "links", "links2", "lynx", "w3m", "www-browser")


def why_no_browser(
    environ: Mapping[str, str], *, platform: str = sys.platform, marks: tuple[str, ...] = _CONTAINER_MARKS
) -> str | None:
    """Why no browser can be opened here, in a few words for the person; None when one can.

    A browser on another machine does not count: the issuer sends it back to this machine's own loopback address. An
    editor that forwards both (VS Code sets BROWSER and VSCODE_IPC_HOOK_CLI) does count.

    Args:
        environ: the environment variables.
        platform: as `sys.platform` has it.
        marks: files that only a container has.
    """
    if environ.get("BROWSER") and environ.get("VSCODE_IPC_HOOK_CLI"):
        return None
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return "this is an ssh session"
    if environ.get("CI", "").lower() not in ("", "0", "false", "no"):
        return "this is a CI job"
    if any(Path(mark).exists() for mark in marks):
        return "this is a container"
    has_display = environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    if platform not in ("darwin", "win32", "cygwin") and not has_display:
        return "this machine has no display"
    return None if _has_browser() else "no browser is installed"


def _has_browser() -> bool:
    """Whether the standard library finds a browser. One that draws in the terminal does not count: we write there."""
    import webbrowser

    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return False
    return os.path.basename(getattr(found, "name", "")) not in _TEXT_BROWSERS


class BrowserOpening(threading.Thread):
    """Opens a URL in a thread that dies with the process: some browsers come back only when they are closed.

    Args:
        url: what to open. It is visible in the list of processes for a moment: nobody can take over the person's login
            with it, because the PKCE verifier stays here, but other users of this machine could offer one of their own.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="authstate-browser", daemon=True)
        self.failed = False
        """Whether it turned out that no browser opened."""
        self._url = url

    def run(self) -> None:
        import webbrowser

        try:
            self.failed = not webbrowser.open(self._url)
        except (webbrowser.Error, OSError, ValueError):
            self.failed = True
