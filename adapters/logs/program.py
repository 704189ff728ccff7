"""The log of a program of authstate's own, which owns the whole process: every line goes to standard error.

Imports nothing that delays the start.
"""

import logging
from typing import Final

_OURS: Final = "authstate"


def keep_warnings_on_stderr() -> None:
    """Print authstate's own warnings as plain text until `configure_program_logs`, as the standard library does while
    nobody has configured logging. Whoever runs a command in a process that has configured it gets them there.
    """
    if logging.lastResort is not None and not logging.getLogger().handlers:
        logging.getLogger(_OURS).addHandler(logging.lastResort)


def configure_program_logs(level: str = "warning") -> None:
    """Write authstate's lines to standard error, and the warnings of everybody else: asyncio reports problems there.

    Args:
        level: the lowest level of authstate's own lines.
    """
    from authstate.adapters.logs.stderr_lines import ForeignFormatter, configure_logs

    if logging.lastResort is not None:
        logging.getLogger(_OURS).removeHandler(logging.lastResort)
    configure_logs(level)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, ForeignFormatter)]:
        root.removeHandler(old)
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(ForeignFormatter())
    root.addHandler(handler)
