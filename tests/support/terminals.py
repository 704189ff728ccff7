"""A terminal with a shell, in a tmux server of its own. A test types, and waits for what appears."""

import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Self

PROMPT = "ready$"
_COLUMNS, _LINES = 120, 50


class Terminal:
    """An interactive bash in a tmux session. Use it as a context manager: at the end the server is gone.

    Args:
        environment: of the shell.
        folder: where the shell starts.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._place = tempfile.mkdtemp(prefix="authstate-tmux-")  # the path of a socket must be short
        self._tmux = ["tmux", "-S", os.path.join(self._place, "socket"), "-f", os.devnull]
        shell = ["env", f"PS1={PROMPT} ", "bash", "--norc", "--noprofile", "-i"]
        size = ["-x", str(_COLUMNS), "-y", str(_LINES)]
        # In control mode, tmux writes a line whenever the pane has changed.
        self._client = subprocess.Popen(
            [*self._tmux, "-C", "new-session", *size, "-c", str(folder), *shell],
            env={**environment, "TERM": "xterm-256color"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._client.stdout is not None
        self._client.stdout.readline()  # the server answers from now on
        self._changes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._pump, daemon=True).start()

    def __enter__(self) -> Self:
        self.until(lambda screen: PROMPT in screen)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=30)
        assert self._client.stdin is not None
        self._client.stdin.close()
        self._client.wait(timeout=30)
        shutil.rmtree(self._place, ignore_errors=True)

    def modes(self) -> str:
        """The modes that a program may leave set: the alternate screen, a hidden cursor, the mouse, the keypad."""
        names = ("alternate_on", "cursor_flag", "mouse_any_flag", "keypad_cursor_flag", "keypad_flag")
        return self._ask("display-message", "-p", " ".join(f"{name}=#{{{name}}}" for name in names))

    def screen(self) -> str:
        """What is on the screen, without trailing spaces."""
        return self._ask("capture-pane", "-p", "-J").rstrip()

    def type(self, text: str) -> None:
        """Type a text, without Enter."""
        self._ask("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys, by the names that tmux has for them: `Enter`, `C-c`."""
        self._ask("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command and press Enter."""
        self.type(command)
        self.press("Enter")

    def until(self, ready: Callable[[str], bool], *, timeout: float = 60) -> str:
        """Wait until the screen is as it should be, and return it.

        Args:
            ready: called with the screen, now and after each change.
            timeout: seconds.

        Raises:
            TimeoutError: it did not become so. The message has the screen.
        """
        deadline = monotonic() + timeout
        while not ready(screen := self.screen()):
            try:
                if self._changes.get(timeout=max(0.0, deadline - monotonic())) is None:
                    raise TimeoutError(f"tmux has ended; before:\n{screen}")
            except queue.Empty:
                raise TimeoutError(f"after {timeout:g} seconds the screen shows:\n{screen}") from None
        return screen

    def _ask(self, *command: str) -> str:
        done = subprocess.run([*self._tmux, *command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip("\n")

    def _pump(self) -> None:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            if line.startswith(b"%output"):
                self._changes.put(line)
        self._changes.put(None)
