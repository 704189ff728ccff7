"""What a replay refuses, rule by rule, and what it lets pass."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import REPO
from unit.adapters.report.histories import NEW, OLD, Writer, writers

from authstate.adapters.journal.lines import Line
from authstate.adapters.report import replay as rules
from authstate.adapters.report.names import Names
from authstate.adapters.report.refusal import Refusal
from authstate.adapters.report.replay import RULES, replay
from authstate.adapters.report.words import describe_line
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE
from authstate.engine.model.states import AuthState, Trigger


def first(journal: list[Line]) -> Refusal:
    found = replay(journal).first
    assert found is not None
    return found


def test_a_refresh_without_a_fault_is_as_the_tables_say() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.refreshes()
    one.refreshes(NEW, "c" * 32, 3)
    one.add("ended")
    assert replay(journal).refusals == ()
    assert replay(journal).steps == len(journal)
    assert replay([]).first is None


# The table of the login, cell by cell


@pytest.mark.parametrize("state", AuthState)
@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("target", AuthState)
def test_each_cell_of_the_table_decides(state: AuthState, trigger: Trigger, target: AuthState) -> None:
    journal, [one] = writers("a")
    one.skip()
    one.changed(str(trigger), str(state), str(target), 7)
    found = replay(journal).first
    assert (found is None) is (AUTH_TABLE.target(state, trigger) == target)
    if found is not None:
        assert found.rule == AUTH_TABLE.name


def test_a_state_follows_from_the_one_before() -> None:
    journal, [one] = writers("a")
    one.starts()
    wrong = one.changed("log_out", "api_key", "logged_out", 2)
    assert first(journal) == Refusal(
        wrong, "auth_state", "it leaves the state api_key, and by the line before, the state is chatgpt"
    )


def test_a_generation_follows_from_the_one_before() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.changed("log_out", "chatgpt", "logged_out", 3)
    assert first(journal).why == "generation 3 follows generation 1"


def test_a_state_holds_credentials_of_its_kind() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.changed("use_external_tokens", "chatgpt", "external_tokens", 2)
    one.changed("tokens_refreshed", "external_tokens", "external_tokens", 3, kind="chatgpt")
    assert first(journal).rule == rules.CREDENTIALS_OF_THE_STATE


def test_only_the_first_refusal_of_an_engine_is_told() -> None:
    journal, [one, other] = writers("a", "b")
    for each in (one, other):
        each.changed("log_out", "chatgpt", "chatgpt", 2)
        each.changed("log_out", "chatgpt", "chatgpt", 9)
    assert [refusal.line.n for refusal in replay(journal).refusals] == [1, 1]


# The rules


def test_a_token_is_claimed_before_it_is_sent() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("refresh_started", reason="needed", generation=1)
    wrong = one.add("sent", token=OLD, attempt=1)
    assert (first(journal).line, first(journal).rule) == (wrong, rules.CLAIM_BEFORE_SENDING)


def test_a_claim_that_was_not_written_is_none() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.claim(recorded=False)
    one.add("sent", token=OLD, attempt=1)
    assert first(journal).rule == rules.CLAIM_BEFORE_SENDING


def test_a_token_in_doubt_waits_while_the_access_token_is_usable() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.claim("doubtful", could_wait=True)
    assert first(journal).rule == rules.WAIT_WHILE_USABLE


@pytest.mark.parametrize("last", ["unknown", "not_sent"])
def test_a_lost_answer_is_repeated_once(last: str) -> None:
    journal, [one] = writers("a")
    one.starts()
    one.claim()
    for attempt, delivery in ((1, "not_processed"), (2, "unknown"), (3, last)):
        one.add("sent", token=OLD, attempt=attempt)
        one.add("answered", token=OLD, attempt=attempt, delivery=delivery, error="no answer")
    assert replay(journal).first is None
    one.add("sent", token=OLD, attempt=4)
    assert first(journal).rule == rules.REPEAT_ONCE


@pytest.mark.parametrize(("delivery", "is_refused"), [("unknown", True), ("not_sent", False), (None, True)])
def test_a_token_that_was_sent_is_in_doubt(delivery: str | None, is_refused: bool) -> None:
    journal, [one] = writers("a")
    one.starts()
    one.claim()
    one.add("sent", token=OLD, attempt=1)
    if delivery is not None:
        one.add("answered", token=OLD, attempt=1, delivery=delivery, error="failed")
    one.ends("withdraw")
    found = replay(journal).first
    assert (found is not None and found.rule == rules.DOUBT_AFTER_SENDING) is is_refused


def test_an_answer_without_another_refresh_token_gives_the_old_one_free() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.claim()
    one.add("sent", token=OLD, attempt=1)
    one.add("answered", token=OLD, attempt=1)
    one.ends("withdraw")
    one.changed("tokens_refreshed", "chatgpt", "chatgpt", 2, token=OLD)
    assert replay(journal).first is None


def test_new_tokens_are_stored_before_they_are_used() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("refresh_started", reason="needed", generation=1)
    one.claim()
    one.add("sent", token=OLD, attempt=1)
    one.add("answered", token=OLD, attempt=1)
    one.changed("tokens_refreshed", "chatgpt", "chatgpt", 2, token=NEW)
    assert first(journal).rule == rules.STORE_BEFORE_USE


def test_tokens_that_could_not_be_stored_may_be_replaced_by_those_of_another_process() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("refresh_started", reason="needed", generation=1)
    one.claim()
    one.add("sent", token=OLD, attempt=1)
    one.add("answered", token=OLD, attempt=1)
    one.add("refresh_ended", outcome="failed", attempts=1, generation=1, duration=0.1)
    one.changed("tokens_refreshed", "chatgpt", "chatgpt", 2, token="c" * 32)
    assert replay(journal).first is None


def test_a_newer_access_token_is_not_renewed_because_of_a_401() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("unauthorized", generation=1)
    one.changed("tokens_refreshed", "chatgpt", "chatgpt", 2, token=NEW, same_access=True)
    one.add("refresh_started", reason="unauthorized", generation=2)
    one.changed("tokens_refreshed", "chatgpt", "chatgpt", 3, token="c" * 32)
    assert replay(journal).first is None, "it is the same access token"
    one.add("refresh_started", reason="unauthorized", generation=3)
    assert first(journal).rule == rules.REFUSED_BEFORE_RENEWAL


def test_an_expired_access_token_is_renewed_after_a_401_of_an_older_one() -> None:
    journal, [one] = writers("a")
    one.starts(expires_at=1_000_002.0)
    one.add("unauthorized", generation=0)
    one.add("refresh_started", reason="unauthorized", generation=1)
    assert replay(journal).first is None


def _replaced(one: Writer, other: Writer) -> None:
    """One process refreshes, and another one calls its token spent."""
    one.starts()
    other.starts()
    one.refreshes()
    other.add("refresh_started", reason="needed", generation=1)
    other.changed("refresh_rejected", "chatgpt", "refresh_dead", 2, token=OLD, reason="exhausted")


def test_a_process_whose_tokens_were_replaced_adopts_the_new_ones() -> None:
    journal, [one, other] = writers("a", "b")
    _replaced(one, other)
    assert (first(journal).line.by, first(journal).rule) == ("b", rules.ADOPT_WHAT_REPLACED_IT)


def test_every_rule_has_words() -> None:
    assert set(RULES) == {value for name, value in vars(rules).items() if name.isupper() and isinstance(value, str)}
    assert not set(RULES) & {AUTH_TABLE.name, REFRESH_CLAIM_TABLE.name}
    page = (REPO / "docs" / "reporting.md").read_text(encoding="utf-8")
    table = page.partition("<!-- rules: begin -->\n")[2].partition("<!-- rules: end -->")[0]
    assert table.splitlines()[2:] == [f"| {rule} | {asks} |" for rule, asks in RULES.items()]


# What is not known is not refused


def test_after_lost_lines_anything_may_have_happened() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.skip()
    one.add("sent", token=OLD, attempt=3)
    one.changed("log_out", "api_key", "logged_out", 9)
    one.add("refresh_started", reason="unauthorized", generation=4)
    assert replay(journal).first is None


def test_what_a_newer_release_writes_is_not_refused() -> None:
    journal, [one] = writers("a")
    one.changed("paused", "chatgpt", "asleep", 1)
    one.add("claim", trigger="lend", found="free", state="lent", token=OLD)
    one.add("borrowed", who="somebody")
    assert replay(journal).first is None
    assert describe_line(journal[2], Names(journal)) == "something that this release does not know: borrowed"


SCALARS = st.one_of(st.text(max_size=5), st.integers(-3, 3), st.floats(), st.booleans())
KINDS = ("state_changed", "claim", "sent", "answered", "refresh_started", "refresh_ended", "unauthorized", "warned")
WORDS = st.sampled_from([*AuthState, *Trigger, "free", "claimed", "spent", "claim", "settle", "unknown", OLD, NEW])
MEMBERS = ("trigger", "previous", "state", "found", "token", "generation", "kind", "reason", "delivery", "expires_at")
LINES = st.builds(
    Line,
    st.just(1),
    st.floats(0, 2e9),
    st.sampled_from(("a", "b")),
    st.integers(0, 5),
    st.just(1),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(MEMBERS), st.one_of(SCALARS, WORDS.map(str))),
)


@given(st.lists(LINES, max_size=12))
def test_no_journal_makes_a_replay_fail(journal: list[Line]) -> None:
    names = Names(journal)
    assert all(describe_line(line, names) for line in journal)
    assert replay(journal).steps == len(journal)


def test_ten_thousand_steps_are_replayed_within_a_second() -> None:
    """By the clock of this thread, so that a busy machine makes no difference."""
    journal, [one, other] = writers("a", "b")
    one.starts("t0")
    other.starts("t0")
    number = 0
    while len(journal) < 10_000:
        one.refreshes(f"t{number}", f"t{number + 1}", number + 2)
        other.changed("tokens_refreshed", "chatgpt", "chatgpt", number + 2, token=f"t{number + 1}")
        number += 1
    began = time.thread_time()
    assert replay(journal).first is None
    assert time.thread_time() - began < 1.0
