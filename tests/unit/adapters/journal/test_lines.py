"""What a line of a journal holds, and what it must not hold."""

import os
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from authstate.adapters.journal.lines import Line, Redaction, decode, describe, encode, is_notable
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, RefreshClaimTrigger, fingerprint_of
from authstate.engine.machines.refresh_trace import (
    AccessRefused,
    ClaimStep,
    EngineEnded,
    TokenAnswered,
    TokenSent,
    TraceStep,
)
from authstate.engine.model.errors import Delivery, IssuerUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.events import (
    AccountUpdated,
    Event,
    EventsMissed,
    LoginCompleted,
    RefreshEnded,
    RefreshFailed,
    RefreshOutcome,
    RefreshReason,
    RefreshRetried,
    RefreshStarted,
    StateChanged,
    TokenExpired,
    TokenExpiring,
    Warned,
)
from authstate.engine.model.policy import Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import make_tokens

TOKENS = make_tokens(email="person@example.com", account_id="org-1")
SIGNED_IN = Session(AuthState.CHATGPT, TOKENS, None, 1)
DEAD = PermanentRefreshError(RefreshDeadReason.EXPIRED)
ONE_OF_EACH: tuple[Event | TraceStep, ...] = (
    StateChanged(Trigger.COMPLETE_CHATGPT_LOGIN, Session(), SIGNED_IN),
    LoginCompleted("id", success=True),
    AccountUpdated(None, None),
    RefreshStarted(RefreshReason.NEEDED, 1),
    RefreshRetried(2, 0.5, DEAD),
    RefreshEnded(RefreshOutcome.FAILED, 0.1, 1, 1, DEAD),
    RefreshFailed(DEAD, permanent=True),
    TokenExpiring(1.0, 1),
    TokenExpired(1.0, 1),
    EventsMissed(3, Session()),
    Warned("code", "message"),
    ClaimStep(RefreshClaimTrigger.CLAIM, RefreshClaimState.FREE, RefreshClaim("ab"), is_recorded=True),
    TokenSent("ab", 1),
    TokenAnswered("ab", 1),
    AccessRefused(1),
    EngineEnded(),
)


def test_every_event_and_every_step_has_a_line() -> None:
    assert {type(one) for one in ONE_OF_EACH} == {*get_args(Event), *get_args(TraceStep)}
    kinds = [describe(one, str)[0] for one in ONE_OF_EACH]
    assert not {type(one).__name__ for one in ONE_OF_EACH} & set(kinds)
    assert len(set(kinds)) == len(ONE_OF_EACH)


@pytest.mark.parametrize("happened", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_a_line_is_read_as_it_was_written(happened: Event | TraceStep) -> None:
    what, data = describe(happened, str)
    line = Line(1, 5.25, "0123abcd", 7, 99, what, data)
    encoded = encode(line)
    assert encoded.endswith(b"}\n") and encoded.count(b"\n") == 1
    assert decode(encoded.rstrip()) == line


def test_what_UTF_8_cannot_hold_becomes_a_question_mark() -> None:
    """Half of a surrogate pair: Python makes it of a file name that is not UTF-8."""
    line = Line(1, 1.0, "a", 1, 1, "opened", {"program": "na\udce9.py", "n": 1})
    assert decode(encode(line).rstrip()) == Line(1, 1.0, "a", 1, 1, "opened", {"program": "na?.py", "n": 1})


def test_a_change_of_the_session_names_its_tokens_by_digests() -> None:
    failed = Session(AuthState.REFRESH_DEAD, TOKENS, Failure("why", RefreshDeadReason.EXPIRED, "detail"), 2)
    assert describe(StateChanged(Trigger.REFRESH_REJECTED, SIGNED_IN, failed), str) == (
        "state_changed",
        {
            "trigger": "refresh_rejected",
            "previous": "chatgpt",
            "state": "refresh_dead",
            "generation": 2,
            "kind": "chatgpt",
            "login": TOKENS.account.digest,
            "token": fingerprint_of(TOKENS.refresh_token),
            "expires_at": TOKENS.expires_at,
            "same_access": True,
            "reason": "expired",
            "message": "why",
            "detail": "detail",
        },
    )


def test_what_became_of_a_token_that_was_sent() -> None:
    lost = TokenAnswered("ab", 2, IssuerUnavailable("no answer", delivery=Delivery.UNKNOWN))
    assert describe(lost, str)[1] == {"token": "ab", "attempt": 2, "delivery": "unknown", "error": "no answer"}
    assert describe(TokenAnswered("ab", 1, DEAD), str)[1]["reason"] == "expired"


def test_what_a_program_reads_and_a_death_that_was_known_are_not_notable() -> None:
    plain = {StateChanged, TokenExpiring, TokenExpired, EngineEnded, RefreshStarted, RefreshEnded, RefreshFailed}
    assert {type(one) for one in ONE_OF_EACH if not is_notable(one)} == plain
    dead = Session(AuthState.REFRESH_DEAD, TOKENS, Failure("why", RefreshDeadReason.EXPIRED), 2)
    assert not is_notable(StateChanged(Trigger.REFRESH_REJECTED, SIGNED_IN, dead))
    lost = IssuerUnavailable("no answer", delivery=Delivery.UNKNOWN)
    assert is_notable(RefreshEnded(RefreshOutcome.FAILED, 0.1, 1, 1, lost))
    assert is_notable(RefreshFailed(lost, permanent=False))
    assert is_notable(RefreshEnded(RefreshOutcome.ADOPTED, 0.1, 0, 1, None))
    refused = Session(failure=Failure("a policy"), generation=1)
    assert is_notable(StateChanged(Trigger.CREDENTIALS_REFUSED, Session(), refused))
    assert is_notable(StateChanged(Trigger.LOG_OUT, SIGNED_IN, Session(generation=2)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"v":1,"at":1.0,"by":"a"',
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"v":1}',
        b'{"v":1,"at":1.0,"by":"a","n":1,"pid":1,"what":"x","data":{"list":[1]}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_line_is_none(data: bytes) -> None:
    assert decode(data) is None


def test_members_of_a_later_release_do_no_harm() -> None:
    line = decode(b'{"v":1,"at":1,"by":"a","n":1,"pid":1,"what":"moved","data":{"to":"x"},"host":"h"}')
    assert line == Line(1, 1.0, "a", 1, 1, "moved", {"to": "x"})


def test_a_message_loses_what_tells_of_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/person")
    redact = Redaction(str(tmp_path))
    assert redact(f"cannot write {tmp_path}/auth.json: no space") == "cannot write HOME/auth.json: no space"
    assert redact("see /home/person/log") == "see ~/log"
    assert redact(f"the login of {TOKENS.account} ended") == "the login of [email] (workspace [id]) ended"
    assert redact("sent tokens of workspace 12ab-cd, and") == "sent tokens of workspace [id], and"
    assert redact("your workspace is closed") == "your workspace is closed"
    assert redact("Bearer abcdefghijkl") == "Bearer [redacted]"
    assert redact("this file belongs to user 1") == "this file belongs to user 1"
    assert len(redact("a b " * 1000)) == 1000


def test_a_message_of_a_policy_names_no_workspace(tmp_path: Path) -> None:
    violation = Policy(forced_workspaces=("org-7", "acme"), workspace_rule="rules.toml").violation(TOKENS)
    text = Redaction(str(tmp_path))(violation)
    assert "org-" not in text and "acme" not in text
    assert text.startswith("these tokens belong to workspace [id], and the configuration allows only [id] (rules.toml)")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("x " * 485 + "refresh token " + "Ab1" * 30, "refresh token [redacted]"),  # the end of the text is in the key
        ("x " * 495 + "ada.lovelace@example.com", "[email]"),
        ("for u=ada%40example.com", "for [email]"),
        ("for ada@corp, ada@[10.0.0.1] and ada\uff20example.com", "for [email], [email] and [email]"),
        ('for "ada lovelace"@example.com', "for [email]"),
        ("proxy http://ada:hun/ter2@proxy:8080 failed", "proxy [email]:8080 failed"),
        ("proxy ada:hunter2@proxy:8080 failed", "proxy [email]:8080 failed"),
        ("account 11111111-2222-3333-4444-555555555555", "account [id]"),
        ("organization org-AbCdEf123456", "organization [id]"),
        ("sent 0123456789abcdef0123456789abcdef", "sent [redacted]"),
        ("sent AbCdEfGhIjKlMnOpQrStUvWxYz", "sent [redacted]"),
        ("sent abcd/efgh/ij" + "kL9/xY2z" * 10, "sent [redacted]"),
        ("refresh_token: value", "refresh_token: [redacted]"),
        ("refresh_token is 'v1.a.b'", "refresh_token is [redacted]"),
        ("token=\n value", "token=\n [redacted]"),
        ("the key s\u200bk-abcdefghijk", "the key [redacted]"),
        ("/srv/hid/x, /srv/hid and /srv/hidden", "HOME/x, HOME and /srv/hidden"),
        ("the refresh token is too old: `authstate login`", "the refresh token is too old: `authstate login`"),
        ("the access token: not usable", "the access token: not usable"),
        ("refresh_token_invalidated", "refresh_token_invalidated"),
        ("https://auth.openai.com/oauth/token: 502", "https://auth.openai.com/oauth/token: 502"),
    ],
)
def test_what_a_message_shows(message: str, shown: str) -> None:
    text = Redaction("/srv/hid")(message)
    assert len(text) <= 1000
    assert text.lstrip("x ") == shown


def test_a_long_message_costs_little() -> None:
    """It is read only in part, and no key is cut in two before it is found."""
    text = Redaction("/srv/h")("ab " + "a@" * 1_000_000)
    assert text == "ab"
    text = Redaction("/srv/h")(("a" * 100 + " ") * 79 + "deadbeef" * 100)
    assert text == " ".join(["[redacted]"] * 79)


def test_a_home_behind_a_link_is_HOME_as_well(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    redact = Redaction(str(tmp_path / "link"))
    assert redact(f"{tmp_path}/real/a {tmp_path}/link/a") == "HOME/a HOME/a"


def test_a_line_is_immutable() -> None:
    line = Line(1, 1.0, "a", 1, 1, "x")
    with pytest.raises(AttributeError):
        line.n = 2  # type: ignore[misc]
    assert msgspec.structs.replace(line, n=2).n == 2
