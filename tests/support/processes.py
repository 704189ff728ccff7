"""Finds processes by their environment or their parent, and waits for their end without polling. Linux only."""

import os
import select
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from authstate.adapters.cli.leftover_processes import leftover_processes

_ENDS_WITHIN = 60.0  # seconds


def processes_of(home: Path) -> list[int]:
    """The processes with this `CODEX_HOME`, but not this one."""
    return leftover_processes("CODEX_HOME", str(home))


def still_running(processes: list[int], *, timeout: float = _ENDS_WITHIN) -> list[int]:
    """Wait for the end of processes. Returns those that run after `timeout` seconds."""
    deadline = monotonic() + timeout
    running = []
    for pid in processes:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                ended, _, _ = select.select([handle], [], [], max(0.0, deadline - monotonic()))
            finally:
                os.close(handle)
            if not ended:
                running.append(pid)
    return running


def any_ended(processes: list[int], *, timeout: float = _ENDS_WITHIN) -> bool:
    """Wait until one of these processes has ended. Returns whether one has within `timeout` seconds."""
    with ExitStack() as opened:
        handles = []
        for pid in processes:
            try:
                handles.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return True
            opened.callback(os.close, handles[-1])
        return bool(select.select(handles, [], [], timeout)[0])


def end_processes_of(home: Path) -> None:
    """Kill the processes with this `CODEX_HOME`, also those that one of them starts meanwhile."""
    deadline = monotonic() + _ENDS_WITHIN
    while (found := processes_of(home)) and monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        still_running(found)
    assert not processes_of(home), "processes go on after SIGKILL"


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found = []
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *descendants(child)]
    return found
