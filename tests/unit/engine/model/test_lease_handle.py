"""Handles of leases: what they look like, what is stored of them, and what is none."""

import re

import pytest

from authstate.engine.model.lease_handle import (
    PREFIX,
    SECRET_BYTES,
    LeaseHandle,
    digest_of_access,
    is_lease,
)
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

RANDOM = bytes(range(SECRET_BYTES))
TEXT = PREFIX + "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def test_a_handle_is_made_of_32_random_bytes_and_all_of_them_count() -> None:
    assert LeaseHandle.of(RANDOM).text().reveal() == TEXT
    texts = {LeaseHandle.of(RANDOM[:place] + b"\xff" + RANDOM[place + 1 :]).text() for place in range(SECRET_BYTES)}
    assert len(texts) == SECRET_BYTES


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_another_number_of_bytes_makes_no_handle(size: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        LeaseHandle.of(bytes(size))


def test_a_handle_comes_back_with_a_digest_of_the_access_token() -> None:
    handle, access = LeaseHandle.of(RANDOM), make_tokens().access_token
    text = handle.text(access).reveal()
    assert text == f"{TEXT}.{digest_of_access(access)}"
    back = LeaseHandle.parse(text)
    assert back is not None
    assert (back.secret, back.seen, back.digest) == (handle.secret, digest_of_access(access), handle.digest)
    assert back.text().reveal() == TEXT, "the digest is no part of the secret"
    newer = make_tokens().access_token
    assert back.text(newer).reveal() == f"{TEXT}.{digest_of_access(newer)}", "the newest digest replaces the last one"


def test_a_handle_as_issued_has_seen_no_access_token() -> None:
    assert LeaseHandle.parse(TEXT) == LeaseHandle.of(RANDOM)
    assert LeaseHandle.of(RANDOM).seen is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rt_0123456789",
        PREFIX,
        TEXT[:-1],
        TEXT + "A",
        TEXT + "\n",
        " " + TEXT,
        TEXT.upper(),
        TEXT + ".",
        TEXT + ".0123456789abcde",
        TEXT + ".0123456789abcdef0",
        TEXT + ".0123456789ABCDEF",
        TEXT + ".0123456789abcdef.0123456789abcdef",
        TEXT[:-1] + "=",
        TEXT[:-1] + "é",
    ],
)
def test_anything_else_is_no_handle(text: str) -> None:
    assert LeaseHandle.parse(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [(TEXT, True), (PREFIX + "damaged", True), ("rt_0123", False), ("", False), (" " + TEXT, False)],
)
def test_what_begins_like_a_handle_is_never_taken_for_a_refresh_token(text: str, expected: bool) -> None:
    assert is_lease(Secret(text)) is expected


def test_what_is_stored_of_a_handle_reveals_nothing_of_it() -> None:
    digest = LeaseHandle.of(RANDOM).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest != LeaseHandle.of(bytes(SECRET_BYTES)).digest
    assert TEXT[len(PREFIX) :] not in repr(LeaseHandle.of(RANDOM))


def test_access_tokens_are_told_apart_by_16_digits() -> None:
    one, other = make_tokens().access_token, make_tokens().access_token
    assert re.fullmatch("[0-9a-f]{16}", digest_of_access(one))
    assert digest_of_access(one) == digest_of_access(Secret(one.reveal())) != digest_of_access(other)
