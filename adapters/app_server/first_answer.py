"""Answers `initialize` before the event loop is imported, if the client sent it already. A front-end waits for it.

A front-end starts the app-server and writes `initialize` at once, so it is there when the configuration is read.
Importing asyncio takes longer than all that the answer needs. Everything else is left to the server, unchanged: another
message, a part of a line, an `initialize` that is wrong, and whatever follows the first line.
"""

import os
import select
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from authstate.adapters.app_server.introduction import answer_introduction, read_introduction
from authstate.adapters.app_server.wire import InitializeParams
from authstate.adapters.jsonrpc.framing import RpcError, encode_answer, is_id, read_line

_CHUNK = 64 * 1024


class FirstAnswer(NamedTuple):
    """What was done before the server runs."""

    introduction: InitializeParams | None = None
    """The params of the `initialize` that was answered; None if nothing was."""
    unsent: bytes = b""
    """What could not be written of the answer. It comes before everything else."""
    unread: bytes = b""
    """What was read and not processed."""


def answer_first(stdin_fd: int, stdout_fd: int, home: Path) -> FirstAnswer:
    """Answer `initialize` if it is there, is the first message, and can be answered without waiting. Never waits.

    Args:
        stdin_fd, stdout_fd: where the protocol comes from and goes to.
        home: the CODEX_HOME that the client is told.
    """
    if not _is_ready(stdin_fd, stdout_fd):
        return FirstAnswer()
    data = os.read(stdin_fd, _CHUNK)
    line, newline, rest = data.partition(b"\n")
    answered = _answer(line, home) if newline else None
    if answered is None:
        return FirstAnswer(unread=data)
    introduction, answer = answered
    return FirstAnswer(introduction, answer[_write(stdout_fd, answer) :], rest)


def _is_ready(stdin_fd: int, stdout_fd: int) -> bool:
    """Whether a pipe or socket has input, and the output takes an answer. False on Windows, which cannot tell."""
    if sys.platform == "win32":
        return False
    try:
        mode = os.fstat(stdin_fd).st_mode
        readable, writable, _ = select.select([stdin_fd], [stdout_fd], [], 0)
    except (OSError, ValueError):  # the server says what is wrong with it
        return False
    return bool(readable and writable) and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _answer(line: bytes, home: Path) -> tuple[InitializeParams, bytes] | None:
    try:
        message = read_line(line)
        if message.method != "initialize" or not is_id(bytes(message.id)):
            return None
        introduction = read_introduction(message.params)
    except RpcError:
        return None
    return introduction, encode_answer(bytes(message.id), answer_introduction(introduction, home))


def _write(fd: int, answer: bytes) -> int:
    """Write what a pipe takes without waiting. Return how much that was."""
    try:
        return os.write(fd, answer[: getattr(select, "PIPE_BUF", 512)])
    except OSError:  # full, or nobody reads: the server writes it, or finds that out
        return 0
