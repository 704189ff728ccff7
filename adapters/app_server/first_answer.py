"""Answers `initialize` before the server is imported, if the client sent it already. A front-end waits for it.

A front-end starts the app-server and writes `initialize` at once, so it is there when the configuration is known to be
right. Importing msgspec, the settings and asyncio takes twice as long as all that the answer needs. Everything else is
left to the server, unchanged: another message, a part of a line, an `initialize` that is wrong or unusual, and whatever
follows the first line.
"""

import json
import os
import select
import stat
import sys
from typing import NamedTuple

from authstate.adapters.app_server.introduction import describe_server

_CHUNK = 64 * 1024


class FirstAnswer(NamedTuple):
    """What was done before the server runs."""

    answered: bytes = b""
    """The `initialize` that was answered: the line of the client, without its newline. Empty if nothing was."""
    unsent: bytes = b""
    """What could not be written of the answer. It comes before everything else."""
    unread: bytes = b""
    """What was read and not processed."""


def answer_first(stdin_fd: int, stdout_fd: int, home: str) -> FirstAnswer:
    """Answer `initialize` if it is there, is the first message, and can be answered without waiting. Never waits.

    Args:
        stdin_fd, stdout_fd: where the protocol comes from and goes to.
        home: the CODEX_HOME that the client is told.
    """
    if not _is_ready(stdin_fd, stdout_fd):
        return FirstAnswer()
    data = os.read(stdin_fd, _CHUNK)
    line, newline, rest = data.partition(b"\n")
    answer = _answer(line, home) if newline else None
    if answer is None:
        return FirstAnswer(unread=data)
    return FirstAnswer(line, answer[_write(stdout_fd, answer) :], rest)


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


def _answer(line: bytes, home: str) -> bytes | None:
    """Return the answer of the server to this line, if it is an `initialize` of the usual form; else None."""
    message = _parse(line)
    if message is None or message.get("method") != "initialize" or "result" in message or "error" in message:
        return None
    id_, params = message.get("id"), message.get("params")
    if type(id_) not in (int, str) or not isinstance(params, dict):
        return None
    client = _read_client(params.get("clientInfo"))
    if client is None or not _are_capabilities(params.get("capabilities")):
        return None
    if not _are_plain(message, "params") or not _are_plain(params, "clientInfo", "capabilities"):
        return None
    answer = {"id": id_, "result": describe_server(*client, home)}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> dict[str, object] | None:
    """Parse a line. None if it is not an object, or if parsers could disagree about it."""
    if b"\\u" in line:  # it may be half of a pair of surrogates
        return None
    try:
        message = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(members)
    if len(table) < len(members):
        raise ValueError
    return table


def _refuse(_: str) -> None:
    raise ValueError


def _read_client(client: object) -> tuple[str, str] | None:
    """Return the name and the version of a client. None if its description is not of the usual form."""
    if not isinstance(client, dict) or not _are_plain(client):
        return None
    name, version, title = client.get("name"), client.get("version"), client.get("title")
    if isinstance(name, str) and isinstance(version, str) and isinstance(title, str | None):
        return name, version
    return None


def _are_capabilities(capabilities: object) -> bool:
    if not isinstance(capabilities, dict):
        return capabilities is None
    opted_out = capabilities.get("optOutNotificationMethods", [])
    return (
        isinstance(capabilities.get("experimentalApi", False), bool)
        and (opted_out is None or (isinstance(opted_out, list) and all(isinstance(name, str) for name in opted_out)))
        and _are_plain(capabilities, "optOutNotificationMethods")
    )


def _are_plain(members: dict[str, object], *but: str) -> bool:
    """Whether the members, except those named, are not nested. Parsers differ in how deep they go."""
    return all(name in but or not isinstance(value, dict | list) for name, value in members.items())


def _write(fd: int, answer: bytes) -> int:
    """Write what a pipe takes without waiting. Return how much that was."""
    try:
        return os.write(fd, answer[: getattr(select, "PIPE_BUF", 512)])
    except OSError:  # full, or nobody reads: the server writes it, or finds that out
        return 0
