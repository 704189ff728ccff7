"""What is answered before the server is imported is what the server would have answered. Nothing else is answered."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authstate.adapters.app_server.first_answer import answer_first
from authstate.adapters.app_server.handshake import Handshake

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot tell whether a pipe has input")

HOME = "/home/me"
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ANY = st.recursive(
    PLAIN | st.floats(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner)
)


def members(usual: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the usual members, which are seldom wrong, and seldom another member."""
    some = st.fixed_dictionaries({}, optional={name: value | value | value | ANY for name, value in usual.items()})
    none: st.SearchStrategy[dict[str, Any]] = st.just({})
    more = none | none | st.dictionaries(st.sampled_from(["x", "result", "error", "jsonrpc"]), ANY)
    return st.builds(lambda first, second: first | second, some, more)


CLIENT = members({"name": st.text(max_size=9), "version": st.just("1"), "title": st.none() | st.just("Editor")})
CAPABILITIES = members({"experimentalApi": st.booleans(), "optOutNotificationMethods": st.lists(st.text(max_size=3))})
PARAMS = members({"clientInfo": CLIENT, "capabilities": st.none() | CAPABILITIES})
DAMAGE = [b"", b'"', b"{", b",", b"1", b"-0", b"\\", b"\x00", b"\t", b"\xff", b"e9", b"\r"]
MESSAGES = members({"id": st.integers() | st.text(max_size=5), "method": st.just("initialize"), "params": PARAMS})


class _Account:
    """Stands in for the account, which opens later."""

    api = None

    def start(self) -> None:
        """Nothing to open."""


def server_answers(line: bytes) -> list[Any]:
    """What the server answers to a line, once it is there."""
    written: list[bytes] = []

    class Writer:
        def write(self, data: bytes) -> None:
            written.append(data)

    async def answer() -> None:
        handshake = Handshake(Path(HOME), lambda _: _Account())  # type: ignore[arg-type,return-value]
        handshake.peer.connect(Writer())
        handshake.peer.data_received(line + b"\n")
        if handshake.client.is_initialized:
            noted = Handshake(Path(HOME), lambda _: _Account())  # type: ignore[arg-type,return-value]
            noted.answered(line)
            assert vars(noted.client) | {"peer": None} == vars(handshake.client) | {"peer": None}

    asyncio.run(answer())
    return [json.loads(answer) for answer in b"".join(written).splitlines()]


def first_answers(line: bytes) -> list[Any]:
    """What is answered before the server is imported. Empty if it is left to the server."""
    (stdin, client), (answers, stdout) = os.pipe(), os.pipe()
    try:
        os.write(client, line + b"\n")
        first = answer_first(stdin, stdout, HOME)
        if not first.answered:
            assert first.unread == line + b"\n"
            return []
        assert (first.answered, first.unread) == (line, b"")
        written = os.read(answers, 65536) + first.unsent
        return [json.loads(answer) for answer in written.splitlines()]
    finally:
        for end in (stdin, client, answers, stdout):
            os.close(end)


def agree(line: bytes) -> None:
    first = first_answers(line)
    assert not first or first == server_answers(line)


USUAL = {
    "id": 1,
    "method": "initialize",
    "params": {"clientInfo": {"name": "ide", "title": None, "version": "1"}, "capabilities": {"experimentalApi": True}},
}


def test_the_usual_message_is_answered_early() -> None:
    line = json.dumps(USUAL).encode()
    assert first_answers(line) == server_answers(line)
    assert first_answers(line)[0]["result"]["codexHome"] == HOME


@given(MESSAGES, st.booleans())
@example(USUAL, False)
@example({**USUAL, "id": "\ud800"}, True)
@example({**USUAL, "id": True}, True)
@example({**USUAL, "error": None}, True)
def test_messages_are_answered_as_by_the_server_or_not_at_all(message: object, is_ascii: bool) -> None:
    agree(json.dumps(message, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass").replace(b"\n", b" "))


@given(st.data())
def test_damaged_messages_are_answered_as_by_the_server_or_not_at_all(data: st.DataObject) -> None:
    line = json.dumps(USUAL).encode()
    at = data.draw(st.integers(0, len(line)))
    until = data.draw(st.integers(at, min(len(line), at + 3)))
    agree(line[:at] + data.draw(st.sampled_from(DAMAGE)) + line[until:])


def test_a_member_that_is_given_twice_is_left_to_the_server() -> None:
    line = json.dumps(USUAL).encode()
    assert first_answers(line.replace(b'"id": 1', b'"id": {}, "id": 1')) == []
    assert first_answers(line.replace(b'"name": "ide"', b'"name": 7, "name": "ide"')) == []
