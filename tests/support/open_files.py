"""The files below a folder that this process has open.

A count of all descriptors also changes when a thread works or the garbage collector runs: what an earlier test left in
a circle of references, such as a lock in the frames of an error, is closed at any time.
"""

import os
from contextlib import suppress
from pathlib import Path


def open_files_below(folder: Path) -> list[str]:
    """The paths of the open files and folders below a folder, and of the folder itself. Empty where nobody can know."""
    found = []
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):  # the listing itself, or what another thread has closed
            path = os.readlink(f"/proc/self/fd/{number}")
            if Path(path).is_relative_to(folder):
                found.append(path)
    return sorted(found)
