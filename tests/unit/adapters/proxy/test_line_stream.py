"""The line filter: whatever the chunks, what is about accounts is taken out, and all else passes as it is."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authstate.adapters.jsonrpc.framing import RpcError, read_line
from authstate.adapters.proxy.line_stream import LineStream, Take

LONGEST = 1024 * 1024
OURS = ("account/read", "account/updated")
ESCAPED = (b'{"method":"acc\\u006funt/read"}', rb'{"method":"account\/read"}')


class Filtered:
    """A line filter, what passed and what was taken."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []
        self.taken: list[bytes] = []
        self.order: list[tuple[str, bytes]] = []
        self.most_held = 0
        self.too_long = 0
        self.line_stream = LineStream(self.route, self.let_pass, self.refuse, longest=LONGEST)

    def route(self, line: bytes) -> Take | None:
        return partial(self.take, line) if is_ours(line) else None

    def take(self, line: bytes) -> None:
        self.taken.append(line)
        self.order.append(("taken", line))

    def refuse(self) -> None:
        self.too_long += 1

    def let_pass(self, data: bytes) -> None:
        self.passed.append(data)
        self.order.append(("passed", data))

    def feed(self, *chunks: bytes) -> "Filtered":
        for chunk in chunks:
            self.line_stream.feed(chunk)
            self.most_held = max(self.most_held, self.line_stream.held)
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


def is_ours(one: bytes) -> bool:
    try:
        message = read_line(one)
    except RpcError:
        return False
    return message.method in OURS or bytes(message.id).startswith(b'"ours-')


@given(st.lists(lines, max_size=8), lines, st.lists(st.integers(0, 20_000), max_size=12))
@example([b'{"method":"acc\\u006funt/read"}'], b"", [3, 12])
@example([], b'{"method":"account/read"}', [3, 12])
@settings(max_examples=400, deadline=None)
def test_chunks_make_no_difference(whole: list[bytes], rest: bytes, places: list[int]) -> None:
    data = b"".join(one + b"\n" for one in whole) + rest
    filtered = Filtered().feed(*cut(data, places))
    filtered.line_stream.finish()
    every = [one + b"\n" for one in whole] + [rest] * bool(rest)
    ours = [one if one.endswith(b"\n") else one + b"\n" for one in every if is_ours(one)]
    assert filtered.taken == ours
    assert b"".join(filtered.passed) == b"".join(one for one in every if not is_ours(one))
    order = [kind for kind, piece in filtered.order for _ in range(piece.count(b"\n") or 1)]
    assert order == ["taken" if is_ours(one) else "passed" for one in every]


def test_what_passes_stays_in_one_piece() -> None:
    chunk = line(id=1, method="thread/list") * 50
    (passed,) = Filtered().feed(chunk).passed
    assert passed is chunk


def test_only_the_lines_between_are_taken() -> None:
    before, ours, after = line(method="turn/start"), line(id=1, method="account/read"), line(method="turn/end")
    filtered = Filtered().feed(before * 2 + ours + after)
    assert filtered.order == [("passed", before * 2), ("taken", ours), ("passed", after)]


def test_a_word_in_a_text_takes_nothing() -> None:
    said = line(method="turn/start", params={"text": "call account/read for me"})
    assert Filtered().feed(said).passed == [said]


@pytest.mark.parametrize(
    "said",
    [
        b'{"id":7,"result":{},"pad":"' + b"x" * 400_000 + b'","method":"account/read"}\n',
        line(params={"text": "x" * 400_000}, id=1, method="account/read"),
        line(result={"text": "x" * 400_000}, id="ours-1"),
    ],
)
def test_what_the_beginning_of_a_line_says_proves_nothing(said: bytes) -> None:
    filtered = Filtered().feed(*(said[start : start + 4096] for start in range(0, len(said), 4096)))
    assert (filtered.taken, filtered.passed) == ([said], [])


def test_the_last_line_needs_no_newline() -> None:
    """0.93.0 obeys it, 0.169.0 does not."""
    filtered = Filtered().feed(line(method="turn/start") + b'{"id":7,"method":"account/read"}')
    filtered.line_stream.finish()
    assert (filtered.taken, filtered.passed) == ([b'{"id":7,"method":"account/read"}\n'], [line(method="turn/start")])


@pytest.mark.parametrize("method", ["account/read", "turn/start"])
def test_one_that_is_too_long_is_dropped_to_its_end(method: str) -> None:
    part = b"y" * (LONGEST // 4)
    filtered = Filtered().feed(b'{"method": "%s", "params": {"text": "' % method.encode(), *(part for _ in range(40)))
    assert (filtered.too_long, filtered.line_stream.held, filtered.passed) == (1, 0, [])
    assert filtered.most_held <= LONGEST
    behind = line(id=1, method="thread/list")
    filtered.feed(b'"}}\n' + behind)
    assert (filtered.too_long, filtered.passed) == (1, [behind])


@pytest.mark.parametrize("more", [0, 1])
def test_the_limit_counts_the_newline(more: int) -> None:
    filtered = Filtered().feed(b" " * (LONGEST - 1 + more), b"\n")
    assert (filtered.too_long, len(filtered.passed)) == (more, 1 - more)
