"""Encryption at rest: what was moved, cut, changed or copied is not decrypted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.postgres.sealing import NotDecrypted, seal, unseal

KEY = bytes(range(32))
NAMES = st.text(min_size=0, max_size=20)


@given(st.binary(max_size=3000), NAMES, NAMES, NAMES)
def test_what_was_encrypted_is_decrypted(plaintext: bytes, key_id: str, account: str, column: str) -> None:
    stored = seal(KEY, key_id, account, column, plaintext)
    assert unseal(KEY, key_id, account, column, stored) == plaintext
    assert len(stored) == 29 + len(plaintext)
    if len(plaintext) > 3:
        assert plaintext not in stored
    assert seal(KEY, key_id, account, column, plaintext) != stored


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_a_value_is_bound_to_its_key_account_and_column(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    stored = seal(KEY, one[0], one[1], one[2], b"login")
    if one == other:
        assert unseal(KEY, other[0], other[1], other[2], stored) == b"login"
    else:
        with pytest.raises(NotDecrypted):
            unseal(KEY, other[0], other[1], other[2], stored)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_changed_value_is_not_decrypted(plaintext: bytes, data: st.DataObject) -> None:
    stored = bytearray(seal(KEY, "k", "a", "login", plaintext))
    change = data.draw(st.sampled_from(["flip", "cut", "add", "other key"]))
    key = KEY
    if change == "flip":
        stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del stored[data.draw(st.integers(0, len(stored) - 1)) :]
    elif change == "add":
        stored += data.draw(st.binary(min_size=1, max_size=20))
    else:
        key = data.draw(st.binary(min_size=32, max_size=32).filter(lambda other: other != KEY))
    with pytest.raises(NotDecrypted):
        unseal(key, "k", "a", "login", bytes(stored))
