"""Finds the processes that a command of `authstate run` left behind. Linux only: elsewhere it finds none."""

import os
from contextlib import suppress

_MOST_SHOWN = 3


def leftover_processes(variable: str, value: str) -> list[int]:
    """Return the ids of this user's processes that have a variable with this value in their environment.

    Processes that end meanwhile are left out. Blocks briefly; raises nothing.
    """
    entry = f"{variable}={value}".encode()
    found: list[int] = []
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and int(name) != os.getpid():
                with suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                    if entry in environ.read().split(b"\0"):
                        found.append(int(name))
    return sorted(found)


def describe_leftovers(processes: list[int]) -> str:
    """Say that these processes go on without a broker, and what to do."""
    shown = ", ".join(map(str, processes[:_MOST_SHOWN])) + (", ..." if len(processes) > _MOST_SHOWN else "")
    return (
        f"the command left processes that cannot refresh the login any more ({shown}), because the broker ends with "
        "it: end them (`codex app-server daemon stop` ends a daemon of codex). For what goes on, use `authstate broker`"
    )
