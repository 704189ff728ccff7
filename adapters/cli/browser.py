"""Whether a browser can be opened for the person at this terminal, and opening it."""

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from authstate.adapters.cli.exit_status import printable

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_LONGEST_SHOWN = 100  # characters of BROWSER
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
    is_desktop = platform in ("darwin", "win32", "cygwin")
    has_display = is_desktop or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    if any(map(_draws_elsewhere, browser_commands(environ.get("BROWSER", "")))):
        return None  # the person set it, and knows better: in WSL there need be no display
    if not has_display:
        return ", and ".join(filter(None, ("this machine has no display", why_not_named(environ))))
    return None if _has_browser() else "no browser is installed"


def why_not_named(environ: Mapping[str, str]) -> str | None:
    """Why what `BROWSER` says cannot be used; None when it can, or is not set."""
    named = environ.get("BROWSER", "")
    commands = browser_commands(named)
    if not named.strip() or any(map(_draws_elsewhere, commands)):
        return None
    shown = printable(named)
    shown = shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"
    return f"BROWSER names {'a browser for the terminal' if commands else 'no program that is there'}: {shown}"


def browser_commands(named: str) -> list[list[str]]:
    """The commands of `BROWSER` whose program is there, each with `%s` where the URL goes.

    Several are separated as in `PATH`. Each is the path of a program, which may have spaces, or a command with
    arguments.
    """
    commands = []
    for text in filter(None, (part.strip() for part in named.split(os.pathsep))):
        try:
            words = [text] if shutil.which(text) else shlex.split(text, posix=os.name == "posix")
        except ValueError:  # a quote without its other half
            continue
        words = [word for word in words if word != "&"]
        if words and (program := shutil.which(words[0])):
            has_place = any("%s" in word for word in words[1:])
            commands.append([program, *words[1:]] if has_place else [program, *words[1:], "%s"])
    return commands


def _draws_elsewhere(command: list[str]) -> bool:
    return os.path.basename(command[0]) not in _TEXT_BROWSERS


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
        environ: the environment variables. The programs that `BROWSER` names are tried in turn, and no others.
    """

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(name="authstate-browser", daemon=True)
        self.failed = False
        """Whether it turned out that no browser opened."""
        self._url = url
        self._named = [*filter(_draws_elsewhere, browser_commands(environ.get("BROWSER", "")))]

    def run(self) -> None:
        import webbrowser

        browsers = [webbrowser.GenericBrowser(command) for command in self._named]
        try:
            has_opened = (
                any(browser.open(self._url) for browser in browsers) if browsers else webbrowser.open(self._url)
            )
            self.failed = not has_opened
        except (webbrowser.Error, OSError, ValueError):
            self.failed = True
