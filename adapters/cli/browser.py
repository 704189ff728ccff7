"""Finds out whether a browser can be opened for the person at this terminal, and opens it."""

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from authstate.adapters.cli.exit_status import printable
from authstate.adapters.io.child_environment import KEYS_VARIABLE

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_LONGEST_SHOWN = 100  # characters of BROWSER
_TEXT_BROWSERS = ("elinks", "links", "links2", "lynx", "w3m", "www-browser")


def why_no_browser(
    environ: Mapping[str, str], *, platform: str = sys.platform, marks: tuple[str, ...] = _CONTAINER_MARKS
) -> str | None:
    """Return why no browser can be opened here, in a few words for a person. None if one can be opened.

    A browser on another machine cannot be used, because the issuer redirects it to the loopback address of this one.
    An editor that forwards both can be used: VS Code sets BROWSER and VSCODE_IPC_HOOK_CLI.

    Args:
        environ: the environment variables.
        platform: a value of `sys.platform`.
        marks: files that exist only in containers.
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
    if any(map(_is_graphical, browser_commands(environ.get("BROWSER", "")))):
        return None  # the person's choice wins: WSL, for example, needs no display
    if not has_display:
        return ", and ".join(filter(None, ("this machine has no display", why_browser_variable_unusable(environ))))
    return None if _has_browser() else "no browser is installed"


def why_browser_variable_unusable(environ: Mapping[str, str]) -> str | None:
    """Return why the variable `BROWSER` cannot be used. None if it can be used or is not set."""
    named = environ.get("BROWSER", "")
    commands = browser_commands(named)
    if not named.strip() or any(map(_is_graphical, commands)):
        return None
    shown = printable(named)
    shown = shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"
    return f"BROWSER names {'a text browser' if commands else 'no installed program'}: {shown}"


def browser_commands(named: str) -> list[list[str]]:
    """Return the commands in `BROWSER` whose program is installed, each with `%s` in place of the URL.

    Several commands are separated as in `PATH`. Each is the path of a program, which may contain spaces, or a command
    with arguments.
    """
    commands = []
    for text in filter(None, (part.strip() for part in named.split(os.pathsep))):
        try:
            words = [text] if shutil.which(text) else shlex.split(text, posix=os.name == "posix")
        except ValueError:  # an unclosed quote
            continue
        words = [word for word in words if word != "&"]
        if words and (program := shutil.which(words[0])):
            has_place = any("%s" in word for word in words[1:])
            commands.append([program, *words[1:]] if has_place else [program, *words[1:], "%s"])
    return commands


def _is_graphical(command: list[str]) -> bool:
    return os.path.basename(command[0]) not in _TEXT_BROWSERS


def _has_browser() -> bool:
    """Return whether the standard library finds a graphical browser. A text browser would use our terminal."""
    import webbrowser

    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return False
    return os.path.basename(getattr(found, "name", "")) not in _TEXT_BROWSERS


class BrowserOpening(threading.Thread):
    """Opens a URL in a daemon thread, because some browser commands return only when the browser is closed.

    Args:
        url: the URL to open. Other users can see it in the list of processes for a moment. They cannot take over the
            login with it, because the PKCE verifier stays in this process, but they could complete it as themselves.
        environ: the environment variables. If `BROWSER` is set, only its programs are tried, in order.
    """

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(name="authstate-browser", daemon=True)
        self.failed: bool = False
        """Whether no browser could be opened. False while that is not known."""
        self._url = url
        self._named = [*filter(_is_graphical, browser_commands(environ.get("BROWSER", "")))]

    def run(self) -> None:
        import webbrowser

        os.environ.pop(KEYS_VARIABLE, None)  # webbrowser takes no other environment, and a sign-in needs no key
        browsers = [webbrowser.GenericBrowser(command) for command in self._named]
        try:
            has_opened = (
                any(browser.open(self._url) for browser in browsers) if browsers else webbrowser.open(self._url)
            )
            self.failed = not has_opened
        except (webbrowser.Error, OSError, ValueError):
            self.failed = True
