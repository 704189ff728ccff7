"""Starts a process that is stopped while it holds a row of a PostgreSQL database. See stopped_holder.py."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from faults.reports import clean
from faults.stopped_holder import advance
from support.module_commands import command_of, with_tests

from authstate.testing import LoopbackIssuer


class Holder:
    """The process.

    Args:
        url: of the database.
        issuer: where it refreshes.
        folder: for the file with its clock.
        environment: more variables.
    """

    def __init__(self, url: str, issuer: LoopbackIssuer, folder: Path, **environment: str) -> None:
        self._url = url
        self._issuer = issuer
        self._environment = with_tests(clean(**environment))
        self._clock = folder / "clock"
        self._process: subprocess.Popen[str] | None = None
        advance(self._clock, 0.0)

    def start(self, step: str) -> None:
        """Start it. It stops at a step of stopped_holder.py."""
        command = command_of("faults.stopped_holder", self._url, self._issuer.url, step, str(self._clock))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self._environment)

    def until_stopped(self) -> None:
        """Wait until it has stopped."""
        assert self._process is not None
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended with {status} before it reached the step"

    def stop(self) -> None:
        """Stop it where it is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.until_stopped()

    def let_an_hour_pass(self) -> None:
        """Let the hold end, for the database and for the process."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            ended = "UPDATE authstate.accounts SET held_until = held_until - interval '1 hour'"
            connection.execute(ended)
        advance(self._clock, 3600.0)

    def go_on(self) -> dict[str, Any]:
        """Let it go on, to its end. Returns its report."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        output, _ = self._process.communicate("\n", timeout=60)
        report: dict[str, Any] = json.loads(output)
        return report

    def go_on_until_stopped(self) -> None:
        """Let it go on, to its next step."""
        assert self._process is not None and self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.until_stopped()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
