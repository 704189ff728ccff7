"""The sieve: whatever the chunks, what is about accounts is taken out, and all else passes as it is."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authstate.adapters.parent.routing import Sieve, envelope_of, method_in, tells_that_it_passes

WORDS = (b"account/", b"ours-")
OURS = ("account/read", "account/updated")
ESCAPED = (b'{"method":"acc\\u006funt/read"}', rb'{"method":"account\/read"}')


class Sifted:
    """A sieve, what passed and what was taken."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []
        self.taken: list[bytes] = []
        self.order: list[tuple[str, bytes]] = []
        self.most_held = 0
        self.too_long: list[bytes] = []
        self.sieve = Sieve(WORDS, self.route, self.let_pass, self.refuse)

    def route(self, line: bytes) -> bool:
        envelope = envelope_of(line)
        if envelope is None or not (envelope.method in OURS or bytes(envelope.id).startswith(b'"ours-')):
            return False
        self.taken.append(line)
        self.order.append(("taken", line))
        return True

    def refuse(self, beginning: bytes) -> bool:
        if method_in(beginning) not in OURS:
            return False
        self.too_long.append(beginning)
        return True

    def let_pass(self, data: bytes) -> None:
        self.passed.append(data)
        self.order.append(("passed", data))

    def feed(self, *chunks: bytes) -> "Sifted":
        for chunk in chunks:
            self.sieve.feed(chunk)
            self.most_held = max(self.most_held, self.sieve.held)
        return self


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True) if start < end]


texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["account/read", "account/", "ours-1", "\u00e4", "x" * 1500, '{"method":"account/read"}']),
)
ids = st.one_of(st.integers(-5, 5), st.sampled_from(["ours-1", "theirs", ""]))
methods = st.one_of(st.sampled_from([*OURS, "thread/start", "account/other"]), texts)
asked = st.fixed_dictionaries(
    {"method": methods}, optional={"id": ids, "params": st.dictionaries(texts, texts, max_size=3)}
)
answered = st.fixed_dictionaries({"id": ids}, optional={"result": st.one_of(texts, st.none()), "error": texts})
messages = (asked | answered).flatmap(lambda message: st.permutations(list(message.items()))).map(dict)
lines = st.one_of(
    st.builds(lambda message, ascii: json.dumps(message, ensure_ascii=ascii).encode(), messages, st.booleans()),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" ")),
    st.sampled_from([b"", b"account/", *ESCAPED, b'{"method":"account/read"', b"[]", b"\xff"]),
)


@given(st.lists(lines, max_size=8), st.binary(max_size=10), st.lists(st.integers(0, 20_000), max_size=12))
@example([b'{"method":"acc\\u006funt/read"}'], b"", [3, 12])
@settings(max_examples=400, deadline=None)
def test_chunks_make_no_difference(whole: list[bytes], rest: bytes, places: list[int]) -> None:
    rest = rest.replace(b"\n", b" ")
    data = b"".join(one + b"\n" for one in whole) + rest
    sifted = Sifted().feed(*cut(data, places))
    sifted.sieve.finish()
    ours = [
        one + b"\n"
        for one in whole
        if (said := envelope_of(one)) and (said.method in OURS or bytes(said.id).startswith(b'"ours-'))
    ]
    assert sifted.taken == ours
    assert b"".join(sifted.passed) == b"".join(one + b"\n" for one in whole if one + b"\n" not in ours) + rest
    together = b"".join(piece for _, piece in sifted.order)
    assert together == data  # in order, too


def test_what_holds_no_word_passes_in_one_piece() -> None:
    chunk = line(id=1, method="thread/list") * 50
    assert Sifted().feed(chunk).passed == [chunk]


def test_only_the_lines_between_are_taken() -> None:
    before, ours, after = line(method="turn/start"), line(id=1, method="account/read"), line(method="turn/end")
    sifted = Sifted().feed(before * 2 + ours + after)
    assert sifted.order == [("passed", before * 2), ("taken", ours), ("passed", after)]


def test_a_word_in_a_text_takes_nothing() -> None:
    said = line(method="turn/start", params={"text": "call account/read for me"})
    assert Sifted().feed(said).passed == [said]


@pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "method": "turn/start", "params": {"text": "x" * 400_000}},
        {"method": "turn/start", "id": 1, "params": {"text": "account/read " + "x" * 400_000}},
        {"id": 8, "result": {"text": "account/" + "x" * 400_000}},
        {"jsonrpc": "2.0", "id": 'a"b', "error": {"message": "x" * 400_000}},
    ],
)
def test_a_long_line_whose_beginning_tells_is_not_held(message: dict[str, Any]) -> None:
    said = line(**message)
    sifted = Sifted().feed(*(said[start : start + 4096] for start in range(0, len(said), 4096)))
    assert b"".join(sifted.passed) == said
    assert sifted.most_held <= 4096


@pytest.mark.parametrize(
    "message",
    [
        {"params": {"text": "x" * 400_000}, "id": 1, "method": "account/read"},
        {"id": "ours-1", "result": {"text": "x" * 400_000}},
        {"result": {"text": "x" * 400_000}, "id": "ours-1"},
        {"method": "account/read", "id": 1, "params": {"padding": "x" * 400_000}},
    ],
)
def test_a_long_line_that_may_be_ours_is_held_to_its_end(message: dict[str, Any]) -> None:
    said = line(**message)
    sifted = Sifted().feed(*(said[start : start + 4096] for start in range(0, len(said), 4096)))
    assert sifted.taken == [said]


def test_a_line_that_never_ends_is_held_up_to_a_limit() -> None:
    part = b"y" * (1024 * 1024)
    sifted = Sifted().feed(b'{"params": {"text": "', *(part for _ in range(40)))
    assert sifted.most_held <= 17 * 1024 * 1024
    assert sum(map(len, sifted.passed)) > 38 * 1024 * 1024
    sifted.feed(b'"}}\n' + line(id=1, method="account/read"))
    assert len(sifted.taken) == 1


def test_one_that_is_ours_and_too_long_to_be_held_is_dropped_to_its_end() -> None:
    part = b"y" * (1024 * 1024)
    sifted = Sifted().feed(b'{"method": "account/read", "params": {"text": "', *(part for _ in range(40)))
    assert [beginning[:26] for beginning in sifted.too_long] == [b'{"method": "account/read",']
    assert sifted.sieve.held == 0
    behind = line(id=1, method="thread/list")
    sifted.feed(b'"}}\n' + behind)
    assert sifted.passed == [behind]


@pytest.mark.parametrize(
    ("beginning", "method"),
    [
        (rb'{"id":1,"method":"account\/read","params":{"a', "account/read"),
        (b'{"params":{},"method":"account/read"', None),
        (b'{"method":7,"params":{', None),
        (b'{"method":"\xff","params":{', None),
        (b'{"id":1,"text":"account/re', None),
    ],
)
def test_the_method_in_a_beginning(beginning: bytes, method: str | None) -> None:
    assert method_in(beginning) == method


@pytest.mark.parametrize(
    ("beginning", "passes"),
    [
        (b'{"method":"turn/start","par', True),
        (b'{"method":"account/read","par', False),
        (rb'{"method":"account\/read","par', False),
        (b'{"id":7,"result":{"a', True),
        (b'{"id":"ours-3","result":{"a', False),
        (b'{"result":{"a', False),
        (b'{"result":null,"id":"ours-1', False),
        (b'{"error":"x","id":7,"a', False),
        (b'{"id":7,"result":null,"a', True),
        (b'{"id":7,"par', False),
        (b'{"method":"turn/st', False),
        (b'{"m\\u0065thod":"account/read"', False),
        (b'{"method":"a\\\\","params":{', True),
        (b'{"id":12', False),
        (b"[1,2", False),
        (b"", False),
    ],
)
def test_what_a_beginning_tells(beginning: bytes, passes: bool) -> None:
    assert tells_that_it_passes(beginning, Sifted().sieve.words) is passes
