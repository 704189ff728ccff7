"""Members that a message has twice are found, however the message is written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.proxy.repeated_members import repeated_member

DEEP = b"[" * 100_000 + b'"\\u00e4"' + b"]" * 100_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id":1,"method":"a"}', None),
        (b'{"id":1,"method":"a","method":"b"}', "method"),
        (b'{"id":1,"method":"a","m\\u0065thod":"a"}', "method"),
        (b'{"id":1,"method":"a","params":{"method":"b","id":2}}', None),
        (b'{"id": 1, "method": "a", "params": {"method": "b", "id": 2}}\n', None),
        (b'{"id":1,"method":"a","params":{"text":"\\u00e4"}}', None),
        (b'{"\\u0069d":1,"id":2,"method":"a"}', "id"),
        (b'{"id":7,"id":1,"result":{}}', "id"),
        (b'{"id": 7, "id": 1, "result": {}}', "id"),
        (b'{"id":1,"method":"a","params":{},"params":{}}', "params"),
        (b'{"id":1,"error":null,"result":{},"error":{"code":1}}', "error"),
        (b'{"id":1,"other":{"id":2},"other":{"id":3}}', None),
        (b'{ "id":1,"other":{"id":2},"other":' + b"9" * 5000 + b"}", None),
        (b'{"method":"a","params":' + DEEP + b"}", "id"),
    ],
)
def test_a_member_that_comes_twice_is_found(line: bytes, expected: str | None) -> None:
    assert repeated_member(line) == expected


NAMES = st.sampled_from(("id", "method", "params", "result", "error", "other", "i\u0064é", ""))
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.booleans(), st.booleans())
def test_a_member_is_found_exactly_if_it_comes_twice(
    members: list[tuple[str, object]], is_compact: bool, is_ascii: bool
) -> None:
    """However a message is written: with white space or without, with escapes or without."""
    colon, comma = (":", ",") if is_compact else (": ", " , ")
    written = [
        json.dumps(name, ensure_ascii=is_ascii)
        + colon
        + json.dumps(value, ensure_ascii=is_ascii, separators=(comma, colon))
        for name, value in members
    ]
    names = [name for name, _ in members]
    counted = ("id", "method", "params", "result", "error")
    expected = next((name for name in counted if names.count(name) > 1), None)
    assert repeated_member(("{" + comma.join(written) + "}\n").encode()) == expected
