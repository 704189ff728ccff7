"""Each rule of the redaction by itself: a text that only this rule hides, and one like it that stays."""

import logging

import pytest

from authstate.adapters.logs.redaction import HIDDEN, redact, redact_text
from authstate.adapters.logs.redactors import redacted_record
from authstate.engine.model.secret import Secret

HIDDEN_VALUES = [
    # (before, the secret, after)
    *[(f"{scheme} ", "canary-5c", "") for scheme in ("Bearer", "basic", "BEARER", "Basic")],
    *[
        (f'{{"{name}": ', '"canary"', ', "a": 1}')
        for name in ("token", "id_token", "api_key", "apikey", "api-key", "client-secret", "password", "code_verifier")
    ],
    *[(f"{{'{name}': ", "'canary'", "}") for name in ("authorization", "code", "state", "Refresh_Token")],
    ('{"token": ', r'"a\"canary"', "}"),
    ("{'token': ", r"'a\'canary'", "}"),
    ('{"token": ', '"canary, cut off', ""),
    ("{'token': ", "'canary, cut off", ""),
    *[
        (f"?{name}=", "canary", "&next=1")
        for name in ("token", "access_token", "api_key", "apikey", "api-key", "client_secret", "password", "verifier")
    ],
    *[(f"{name}=", "canary", ", next") for name in ("authorization", "code", "state", "STATE")],
    *[("password=", secret, " next") for secret in ('"a canary"', "'a canary'")],
    *[("password=", secret, "") for secret in ('"a canary, cut off', "'a canary, cut off")],
    ("JWT ", "eyJjYW5hcnk1", ""),
    ("JWT ", "eyJjYW5hcnk1.e30.c2ln", " next"),
    ("lease ", "authstate_lease_5c1f.9", " next"),
    *[("key ", f"{prefix}canary", " next") for prefix in ("sk-", "sk_", "rt-", "rt_", "ac-", "at_", "sess-")],
    ("", "c4n4ry_" + "x" * 33, " next"),
]
STAYS = [
    "the bearer of news",
    "the token of the account work is valid",
    "state: chatgpt",
    "a risk-averse task-oriented format-string",
    "x" * 39,
    "eyJshort",
    "/home/user/.codex/auth.json",
    "authstate_lease_file",
    "exit code 3",
]


@pytest.mark.parametrize(("before", "secret", "after"), HIDDEN_VALUES)
def test_each_rule_hides_the_secret_and_nothing_else(before: str, secret: str, after: str) -> None:
    shown = redact_text(f"{before}{secret}{after}")
    assert shown == f"{before}{HIDDEN}{after}"


@pytest.mark.parametrize("text", STAYS)
def test_what_looks_like_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


SECRET_KEYS = ["token", "refresh_tokens", "apikey", "API-Key", "api_key", "client_secret", "Password", "authorization"]


@pytest.mark.parametrize("key", [*SECRET_KEYS, "cookies", "code_verifier", "bearer", "credentials", "set-cookie"])
def test_a_member_that_is_named_like_a_secret_is_hidden_whatever_it_is(key: str) -> None:
    assert redact({key: "a"}) == {key: HIDDEN}
    assert redact({key: ["a"]}) == {key: HIDDEN}
    for plain in (None, True, 3, 0.5):
        assert redact({key: plain}) == {key: plain}


def test_a_member_that_only_speaks_of_secrets_stays() -> None:
    members = {"token_count": "a", "secretary": "b", "tokenizer": "c", "authorized": "d"}
    assert redact(members) == members


class Text(str):
    def __str__(self) -> str:
        return "sk-canary"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Secret("a"), HIDDEN),
        ("sk-canary", HIDDEN),
        (Text("harmless"), HIDDEN),
        (b"sk-canary \xff", f"{HIDDEN} \ufffd"),
        (bytearray(b"sk-canary"), HIDDEN),
        (["sk-canary"], [HIDDEN]),
        (("sk-canary", Secret("a")), [HIDDEN, HIDDEN]),
        ({"sk-canary"}, [HIDDEN]),
        (frozenset({"sk-canary"}), [HIDDEN]),
        ({"sk-canary": 1}, {HIDDEN: 1}),
        (ValueError("sk-canary"), HIDDEN),
        (range(3), "range(0, 3)"),
    ],
)
def test_a_value_of_any_kind_holds_no_secret(value: object, shown: object) -> None:
    assert redact(value) == shown


@pytest.mark.parametrize("message", ["token=%s", {"event": "of structlog"}])
def test_no_member_of_a_record_keeps_a_secret_not_even_what_a_formatter_left(message: object) -> None:
    record = logging.makeLogRecord({"msg": message, "args": ("sk-canary",)})
    if isinstance(message, str):
        logging.Formatter().format(record)
        assert "sk-canary" in record.message
    assert "canary" not in repr(vars(redacted_record(record)))
