"""Account requests are answered in order with the changes before them, and slow down a front-end that does not read."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from authstate.adapters.jsonrpc.framing import Envelope, RpcError, read_line
from authstate.adapters.jsonrpc.peer import Exclusive, Peer
from authstate.adapters.proxy.account_requests import AccountRequests
from authstate.adapters.proxy.flow_control import Endpoint, Gate


class Reader:
    """What comes from the front-end."""

    def __init__(self) -> None:
        self.is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Connection:
    """A front-end whose changes take until `done` is set."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.to_child: list[bytes] = []
        self.done = asyncio.Event()
        self.reader = Reader()
        self.front_end = Endpoint()
        self.front_end.reads.attach(self.reader)
        self.gate = Gate(self.to_child.append, self.front_end.reads)
        self.peer = Peer(lambda method, params: Exclusive(self.done.wait()) if method == "change" else method)
        self.peer.connect(self)
        self.requests = AccountRequests(self.peer, self.gate, self.front_end)

    def write(self, data: bytes) -> None:
        self.answers += [msgspec.json.decode(line) for line in data.splitlines()]

    def ids(self) -> list[Any]:
        return [answer["id"] for answer in self.answers]


def message(id_: int, method: str) -> Envelope:
    return read_line(msgspec.json.encode({"id": id_, "method": method}))


async def test_a_request_is_answered_after_the_changes_before_it_and_bytes_wait() -> None:
    connection = Connection()
    connection.requests.change(message(1, "change"), 50)
    connection.gate.let_pass(b"behind the first")
    connection.requests.change(message(2, "change"), 50)
    connection.requests.ask(message(3, "read"), 50)
    assert (connection.ids(), connection.to_child, connection.gate.has_change) == ([], [], True)
    connection.done.set()
    await connection.peer.drained(1)
    await asyncio.sleep(0)
    await connection.peer.drained(1)
    assert connection.ids() == [1, 2, 3]
    assert connection.to_child == [b"behind the first"]


@pytest.mark.parametrize("how", ["ask", "change", "refuse"])
async def test_a_front_end_that_does_not_read_its_answers_is_not_read_either(how: str) -> None:
    connection = Connection()
    calls = {
        "ask": lambda: connection.requests.ask(message(1, "read"), 50),
        "change": lambda: connection.requests.change(message(1, "read"), 50),
        "refuse": lambda: connection.requests.refuse(Raw(b"1"), RpcError(-32600, "no")),
    }
    calls[how]()
    assert not connection.reader.is_paused
    connection.front_end.pause_writing()
    calls[how]()
    assert connection.reader.is_paused
    connection.front_end.resume_writing()
    assert not connection.reader.is_paused
    assert connection.ids() == [1, 1]


async def test_an_answer_of_the_front_end_does_not_pause_it() -> None:
    connection = Connection()
    connection.front_end.pause_writing()
    asking = asyncio.ensure_future(connection.peer.request("ask", {}))
    await asyncio.sleep(0)
    connection.requests.take_answer(read_line(b'{"id":0,"result":7}'), 19)
    assert bytes(await asking) == b"7"
    assert not connection.reader.is_paused
