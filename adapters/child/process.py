"""The child of `authstate wrap` or `run` as a process: started before anything slow is imported, ended as it would be
alone.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from authstate.adapters.child.command_line import CommandError
from authstate.adapters.io.child_environment import child_environment

NOT_FOUND = 127
"""The exit status of a command that does not exist, as shells have it."""
CANNOT_RUN = 126

FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


class ChildNotStarted(CommandError):
    """The child's program cannot be started. `status` is the exit status that a shell would give."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ChildProcess:
    """A running child. Its standard streams are ours.

    Args:
        command: the program and its arguments.
        environ: its environment; by default ours. The encryption keys of a database are left out.
        errors: an open file for its standard error; by default that is ours.

    Raises:
        ChildNotStarted: there is no such program, or it cannot be run.
    """

    _pipe: int | None = None

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None, errors: IO[bytes] | None = None
    ) -> None:
        self._name = command[0]
        pipe = self._pipe
        try:
            self._process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=errors,
                env=child_environment(environ),
                bufsize=0 if pipe else -1,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise ChildNotStarted(f"cannot start {self._name}: there is no such program", NOT_FOUND) from None
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise ChildNotStarted(f"cannot start {self._name}: {why}", CANNOT_RUN) from None
        except ValueError:
            raise ChildNotStarted("cannot start a program whose name holds a NUL", CANNOT_RUN) from None

    def when_ended(self, call: Callable[[int], object]) -> None:
        """Call, from another thread, with its exit status once it ended: minus the signal's number after a signal."""
        threading.Thread(target=lambda: call(self._process.wait()), name="authstate-child", daemon=True).start()

    def forward(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, unless it has ended, and wait for its end."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def describe_end(self, status: int) -> str:
        """Say how it ended, for a person."""
        how = f"was ended by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return f"{self._name} {how}"


class PipedChildProcess(ChildProcess):
    """A running child with pipes for its standard input and output; its standard error is ours, or a file."""

    _pipe = subprocess.PIPE

    @property
    def stdin_fd(self) -> int:
        """The descriptor of its standard input."""
        return self._stdin.fileno()

    @property
    def stdout_fd(self) -> int:
        """The descriptor of its standard output."""
        return self._stdout.fileno()

    def close_stdin(self) -> None:
        """Close its standard input. May be called again."""
        try:
            self._stdin.close()
        except OSError:
            return

    def close_stdout(self) -> None:
        """Close its standard output: it gets an error when it writes. May be called again."""
        self._stdout.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout


def propagate_exit(status: int) -> int:
    """Return the exit status of this process for a child's: the same. After a signal this process ends by that signal.

    On Windows, and where the signal does not end a process, the status is 128 plus the signal's number.
    """
    if status >= 0:
        return status
    number = -status
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        sys.stderr.flush()
        os.kill(os.getpid(), number)
    return 128 + number


def may_have_reached_child(number: int) -> bool:
    """Whether this signal can come from a key at the terminal, which sends it to the child, too."""
    return number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)) and _is_in_foreground()


def _is_in_foreground() -> bool:
    """Whether Ctrl-C at a terminal reaches this whole process group, the child in it."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
