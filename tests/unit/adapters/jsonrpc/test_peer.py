"""The JSON-RPC peer over a transport in memory: framing, ids, order, bounds, both directions."""

import asyncio
import gc
import random
from typing import Any

import msgspec
import pytest

from authstate.adapters.jsonrpc.framing import LineSplitter, read_line
from authstate.adapters.jsonrpc.peer import Exclusive, Peer, PeerClosed, RemoteError, RpcError


class Wire:
    """Writer and reader of a peer; keeps what was written, one decoded message each."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0
        self.paused = False

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def take(self) -> list[Any]:
        assert self.data == b"" or self.data.endswith(b"\n")
        lines, self.data = self.data.splitlines(), b""
        return [msgspec.json.decode(line) for line in lines]


def connected(handle: Any = lambda method, params: method, **options: Any) -> tuple[Peer, Wire]:
    wire = Wire()
    peer = Peer(handle, **options)
    peer.connect(wire, wire)
    return peer, wire


def codes(answers: list[Any]) -> list[tuple[Any, int | None]]:
    return [(answer["id"], answer.get("error", {}).get("code")) for answer in answers]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_plain_result_is_answered_at_once_and_one_read_makes_one_write() -> None:
    peer, wire = connected()
    peer.data_received(b'{"id":1,"method":"a"}\n{"id":"x","method":"b","params":{}}\n')
    assert wire.writes == 1
    assert wire.take() == [{"id": 1, "result": "a"}, {"id": "x", "result": "b"}]


@pytest.mark.parametrize("id_", ["0", "-7", "123456789012345678901234567890", '""', '"a\\u00e9\\n"', '"é"', '"1"'])
def test_string_and_integer_ids_come_back_as_they_were(id_: str) -> None:
    peer, wire = connected()
    peer.data_received(f'{{"method":"a","id":{id_}}}\n'.encode())
    assert wire.take() == [{"id": msgspec.json.decode(id_), "result": "a"}]


@pytest.mark.parametrize("id_", ["null", "1.5", "1e3", "true", "false", "[]", "[1]", "{}", '{"a":1}'])
def test_any_other_id_is_refused(id_: str) -> None:
    peer, wire = connected()
    peer.data_received(f'{{"method":"a","id":{id_}}}\n'.encode())
    assert codes(wire.take()) == [(None, -32600)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nope", -32700),
        (b"{", -32700),
        (b'{"id":1,"method":"a"}x', -32700),
        (b'{"id":1,"method":"\xff"}', -32700),
        (b'{"id":"\xff","method":"a"}', -32700),
        (b'{"id":1,"method":"a","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}", -32700),
        (b"[1,", -32700),
        (b'{"method":3,"id":', -32700),
        (b'{"id":1,"method":3}', -32600),
        (b"[]", -32600),
        (b"3", -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"id":null}', -32600),
    ],
)
def test_a_line_that_is_no_message_is_refused_and_the_next_one_counts(line: bytes, code: int) -> None:
    peer, wire = connected()
    peer.data_received(line + b"\n" + b'{"id":2,"method":"b"}\n')
    assert codes(wire.take()) == [(None, code), (2, None)]


def test_a_message_with_an_id_and_nothing_else_is_refused_under_its_id() -> None:
    peer, wire = connected()
    peer.data_received(b'{"id":5}\n')
    assert codes(wire.take()) == [(5, -32600)]


def test_blank_lines_and_carriage_returns_are_ignored() -> None:
    peer, wire = connected()
    peer.data_received(b'\n  \n\r\n{"id":1,"method":"a"}\r\n')
    assert wire.take() == [{"id": 1, "result": "a"}]


def test_null_params_count_as_absent() -> None:
    peer, wire = connected(lambda method, params: params is None)
    peer.data_received(b'{"id":1,"method":"a","params":null}\n{"id":2,"method":"a","params": {} }\n')
    assert [answer["result"] for answer in wire.take()] == [True, False]


def test_a_line_that_is_too_long_is_refused_once_and_never_held() -> None:
    peer, wire = connected(longest_line=100)
    for _ in range(1000):
        peer.data_received(b"x" * 50)
    assert codes(wire.take()) == [(None, -32600)]
    peer.data_received(b'\n{"id":1,"method":"a"}\n')
    assert codes(wire.take()) == [(1, None)]
    peer.data_received(b"y" * 101 + b'\n{"id":2,"method":"a"}\n')
    assert codes(wire.take()) == [(None, -32600), (2, None)]


def test_lines_are_the_same_however_the_stream_is_cut() -> None:
    chance = random.Random(7)
    lines = [chance.randbytes(chance.randrange(20)).replace(b"\n", b" ") for _ in range(300)]
    stream = b"\n".join(lines) + b"\n"
    for _ in range(20):
        splitter, found, place = LineSplitter(10), list[bytes | None](), 0
        while place < len(stream):
            size = chance.randrange(1, 30)
            found += splitter.feed(stream[place : place + size])
            place += size
        assert found == [line if len(line) <= 10 else None for line in lines]


def test_ten_thousand_random_lines_do_no_harm() -> None:
    chance = random.Random(2)
    pieces = (b'{"id":', b'"method":"a"', b"1", b",", b"}", b'"', b"\\u", b"[", b"null", b'"result":', b'"error":{')
    peer, wire = connected()
    for _ in range(10_000):
        if chance.random() < 0.5:
            line = chance.randbytes(chance.randrange(1, 80))
        else:
            line = b"".join(chance.choices(pieces, k=chance.randrange(1, 9)))
        peer.data_received(line.replace(b"\n", b" ") + b"\n")
    for answer in wire.take():
        assert answer.get("error", {}).get("code") in (-32700, -32600, None)
    peer.data_received(b'{"id":"last","method":"a"}\n')
    assert wire.take() == [{"id": "last", "result": "a"}]


async def test_the_error_of_a_handler_is_sent_and_a_bug_shows_only_its_class(faults: list[dict[str, Any]]) -> None:
    def handle(method: str, params: object) -> object:
        if method == "refused":
            raise RpcError(-32600, "no", {"why": 1})
        if method == "unencodable":
            return object()
        raise KeyError("sk-secret")

    peer, wire = connected(handle)
    peer.data_received(b'{"id":1,"method":"refused"}\n{"id":2,"method":"bug"}\n{"id":3,"method":"unencodable"}\n')
    refused, bug, unencodable = wire.take()
    assert refused["error"] == {"code": -32600, "message": "no", "data": {"why": 1}}
    assert bug["error"] == {"code": -32603, "message": "internal error (KeyError)"}
    assert unencodable["error"]["code"] == -32603
    assert [type(fault["exception"]) for fault in faults] == [KeyError, TypeError], "the log learns what the wire hides"


async def test_a_notification_handler_that_fails_is_reported_and_delays_no_answer(faults: list[dict[str, Any]]) -> None:
    def on_event(method: str, params: object) -> None:
        raise KeyError(method)

    peer, wire = connected(lambda method, params: method, on_notification=on_event)
    peer.data_received(b'{"method":"told"}\n{"id":1,"method":"asked"}\n')
    assert wire.take() == [{"id": 1, "result": "asked"}]
    assert [type(fault["exception"]) for fault in faults] == [KeyError]


async def test_awaitables_run_side_by_side_and_exclusive_ones_hold_back_what_follows() -> None:
    gates = {name: asyncio.Event() for name in ("slow", "login")}

    async def wait(name: str) -> str:
        await gates[name].wait()
        return name

    def handle(method: str, params: object) -> object:
        if method == "slow":
            return wait(method)
        return Exclusive(wait(method)) if method == "login" else method

    heard: list[str] = []
    peer, wire = connected(handle, on_notification=lambda method, params: heard.append(method))
    lines = [b'{"id":%d,"method":"%s"}\n' % (n, m) for n, m in enumerate([b"slow", b"a", b"login", b"b", b"c"])]
    peer.data_received(b"".join(lines) + b'{"method":"told"}\n')
    await settle()
    assert [answer["id"] for answer in wire.take()] == [1]
    assert heard == []
    gates["login"].set()
    await settle()
    assert [answer["id"] for answer in wire.take()] == [2, 3, 4]
    assert heard == ["told"]
    gates["slow"].set()
    assert await peer.drained(60)
    assert [answer["id"] for answer in wire.take()] == [0]


@pytest.mark.parametrize("then", ["plain", "beside", "exclusive"])
async def test_a_request_that_waits_first_is_exclusive_only_as_long_as_it_must(then: str) -> None:
    opened, gate = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        peer.notify("caused", {})
        await gate.wait()
        return "waited"

    async def opening() -> object:
        await opened.wait()
        if then == "plain":
            return "opened"
        return wait() if then == "beside" else Exclusive(wait())

    peer, wire = connected(lambda method, params: Exclusive(opening()) if method == "first" else method)
    peer.data_received(b'{"id":1,"method":"first"}\n{"id":2,"method":"a"}\n')
    await settle()
    assert wire.take() == []
    opened.set()
    await settle()
    assert [answer["id"] for answer in wire.take()] == {"plain": [1, 2], "beside": [2], "exclusive": []}[then]
    gate.set()
    assert await peer.drained(60)
    said = [message.get("method", message.get("id")) for message in wire.take()]
    assert said == {"plain": [], "beside": [1, "caused"], "exclusive": [1, "caused", 2]}[then]


async def test_no_request_goes_on_after_the_end() -> None:
    begun: list[str] = []

    async def go_on() -> None:
        begun.append("it went on")

    async def opening() -> object:
        return go_on()

    peer, wire = connected(lambda method, params: Exclusive(opening()))
    peer.data_received(b'{"id":1,"method":"first"}\n')
    await asyncio.sleep(0)  # the first task is done, and nobody was told yet
    peer.close()
    await settle()
    gc.collect()
    assert (begun, wire.take()) == ([], [])


async def test_a_notification_follows_the_answer_of_the_request_that_caused_it() -> None:
    later: list[asyncio.Task[None]] = []

    async def tell_later() -> None:
        await asyncio.sleep(0.01)
        peer.notify("later", {})

    async def slow() -> str:
        peer.notify("slow/done", {})
        later.append(asyncio.create_task(tell_later()))
        await asyncio.sleep(0)
        return "slow"

    def handle(method: str, params: object) -> object:
        peer.notify("handling", method)
        return slow() if method == "slow" else method

    peer, wire = connected(handle)
    peer.notify("free", {})
    peer.data_received(b'{"id":1,"method":"a"}\n{"id":2,"method":"slow"}\n')
    await peer.drained(60)
    await later[0]
    said = [message.get("method", message.get("id")) for message in wire.take()]
    assert said == ["free", 1, "handling", 2, "handling", "slow/done", "later"]


async def test_a_notification_to_another_peer_does_not_wait_for_this_ones_answer() -> None:
    other, other_wire = connected()
    seen: list[int] = []

    def handle(method: str, params: object) -> object:
        other.notify("told", {})
        seen.append(len(other_wire.data))
        return None

    peer, _ = connected(handle)
    peer.data_received(b'{"id":1,"method":"a"}\n')
    assert seen[0] > 0
    assert [message["method"] for message in other_wire.take()] == ["told"]


async def test_our_requests_count_up_from_zero_and_take_their_answers_in_any_order() -> None:
    peer, wire = connected()
    first, second = (asyncio.create_task(peer.request("ask", n)) for n in range(2))
    await settle()
    assert [(m["id"], m["params"]) for m in wire.take()] == [(0, 0), (1, 1)]
    peer.data_received(b'{"id":1,"result":{"b":1}}\n{"id":0,"error":{"code":-5,"message":"secret"}}\n')
    assert bytes(await second) == b'{"b":1}'
    with pytest.raises(RemoteError, match="error -5") as failed:
        await first
    assert "secret" not in str(failed.value)


async def test_answers_that_nobody_waits_for_are_dropped() -> None:
    peer, wire = connected()
    asked = asyncio.create_task(peer.request("ask", None))
    await settle()
    wire.take()
    peer.data_received(b'{"id":0,"result":1}\n{"id":0,"result":2}\n{"id":77,"result":1}\n{"id":"0","result":1}\n')
    peer.data_received(b'{"id":null,"error":{"code":-32700,"message":"x"}}\n')
    assert bytes(await asked) == b"1"
    assert peer._outgoing._answers == {}
    assert wire.take() == []


async def test_a_cancelled_request_is_forgotten_and_its_late_answer_dropped() -> None:
    peer, wire = connected()
    asked = asyncio.create_task(peer.request("ask", None))
    await settle()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    peer.data_received(b'{"id":0,"result":1}\n')
    assert peer._outgoing._answers == {}
    assert len(wire.take()) == 1


async def test_a_malformed_error_answer_is_still_an_error() -> None:
    peer, _ = connected()
    asked = asyncio.create_task(peer.request("ask", None))
    await settle()
    peer.data_received(b'{"id":0,"error":"boo"}\n')
    with pytest.raises(RemoteError):
        await asked


@pytest.mark.parametrize("end", ["eof_received", "close"])
async def test_our_requests_fail_when_the_other_side_goes_away(end: str) -> None:
    peer, _ = connected()
    asked = asyncio.create_task(peer.request("ask", None))
    await settle()
    getattr(peer, end)()
    with pytest.raises(PeerClosed):
        await asked
    peer.close()
    with pytest.raises(PeerClosed):
        await peer.request("ask", None)


async def test_closing_cancels_handlers_even_those_that_never_began() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    peer, wire = connected(lambda method, params: forever())
    peer.data_received(b'{"id":1,"method":"a"}\n')
    await settle()
    peer.data_received(b'{"id":2,"method":"a"}\n')
    peer.close()
    await settle()
    gc.collect()
    assert wire.take() == []
    peer.data_received(b'{"id":3,"method":"a"}\n')
    peer.notify("x", {})
    assert wire.take() == []


def test_the_last_line_counts_without_its_newline() -> None:
    peer, wire = connected()
    peer.data_received(b'{"id":1,"method":"a"}')
    assert wire.take() == []
    peer.eof_received()
    assert codes(wire.take()) == [(1, None)]


async def test_more_requests_than_the_limit_are_refused_as_overload() -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    peer, wire = connected(lambda method, params: Exclusive(wait()) if method == "login" else wait(), max_pending=10)
    peer.data_received(b"".join(b'{"id":%d,"method":"a"}\n' % n for n in range(15)))
    assert codes(wire.take()) == [(n, -32001) for n in range(10, 15)]
    gate.set()
    assert await peer.drained(60)
    assert len(wire.take()) == 10
    gate.clear()
    peer.data_received(b'{"id":0,"method":"login"}\n' + b"".join(b'{"id":%d,"method":"a"}\n' % n for n in range(1, 13)))
    assert codes(wire.take()) == [(n, -32001) for n in range(10, 13)]


async def test_two_thousand_requests_behind_a_login_are_all_answered() -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "login"

    peer, wire = connected(lambda method, params: Exclusive(wait()) if method == "login" else method)
    peer.data_received(b'{"id":-1,"method":"login"}\n' + b"".join(b'{"id":%d,"method":"a"}\n' % n for n in range(2000)))
    gate.set()
    await peer.drained(60)
    answers = wire.take()
    assert [answer["id"] for answer in answers] == [-1, *range(2000)]
    assert all("result" in answer for answer in answers)


def test_a_writer_that_holds_too_much_pauses_the_reader() -> None:
    peer, wire = connected()
    peer.pause_writing()
    assert wire.paused
    peer.resume_writing()
    assert not wire.paused


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"method":"a"}',
        b'{"id":1.5,"method":"a"}',
        b'{"id":5}',
        b'{"method":"told"}',
        b'{"id":1,"method":"a","params":null}',
        b'{"id":"x","method":"' + b"y" * 100 + b'"}',
    ],
)
def test_a_message_that_was_read_elsewhere_is_taken_like_its_line(line: bytes) -> None:
    answers, heard = [], []
    for is_read in (False, True):
        told: list[str] = []
        peer, wire = connected(on_notification=lambda method, params, told=told: told.append(method), longest_line=100)
        if is_read:
            peer.message_received(read_line(line), len(line))
        else:
            peer.data_received(line + b"\n")
        answers.append(wire.take())
        heard.append(told)
        peer.close()
        peer.message_received(read_line(line), len(line))
        assert wire.take() == []
    assert answers[0] == answers[1]
    assert heard[0] == heard[1]
