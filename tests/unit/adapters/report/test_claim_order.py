"""The claims of several processes on one token: which orders of their steps there can be."""

import random

import pytest
from unit.adapters.report.histories import NEW, OLD, Writer, writers

from authstate.adapters.journal.lines import Line
from authstate.adapters.journal.reader import Journal
from authstate.adapters.report.page import render_page
from authstate.adapters.report.replay import replay
from authstate.adapters.report.report import make_report
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE, RefreshClaimState, RefreshClaimTrigger


def why(journal: list[Line]) -> str | None:
    found = replay(journal).first
    assert found is None or found.rule == REFRESH_CLAIM_TABLE.name
    return None if found is None else found.why


@pytest.mark.parametrize("state", RefreshClaimState)
@pytest.mark.parametrize("trigger", RefreshClaimTrigger)
@pytest.mark.parametrize("target", RefreshClaimState)
def test_each_cell_of_the_table_decides(
    state: RefreshClaimState, trigger: RefreshClaimTrigger, target: RefreshClaimState
) -> None:
    journal, [one] = writers("a")
    one.add("claim", trigger=str(trigger), found=str(state), state=str(target), token=NEW)
    assert (why(journal) is None) is (REFRESH_CLAIM_TABLE.target(state, trigger) == target)


def _ended(*writers_: Writer) -> None:
    for one in writers_:
        one.add("ended")


@pytest.mark.parametrize("end", ["settle", "refuse"])
def test_a_token_that_is_spent_or_dead_stays_so(end: str) -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    one.ends(end)
    other.claim("free")
    _ended(one, other)
    assert (found := why(journal)) is not None
    assert found.startswith("it claims a refresh token that it found free to be sent, and by the lines before, it is ")


def test_only_who_claimed_a_token_ends_its_claim() -> None:
    """Two processes held the lock at once."""
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim("claimed")
    one.ends("refuse")
    other.ends("settle")
    _ended(one, other)
    assert (found := why(journal)) is not None
    assert found.startswith("it ends a claim that is not its own (refuse)")


def test_a_save_that_could_not_settle_its_claim_leaves_it_in_doubt() -> None:
    """The store does not tell that, so the next process may find the token claimed."""
    journal, [one, other] = writers("a", "b")
    one.claim()
    one.ends("settle")
    other.claim("claimed")
    other.ends("refuse")
    _ended(one, other)
    assert why(journal) is None


def test_two_processes_do_not_find_one_token_free() -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim()
    one.ends("settle")
    other.ends("settle")
    _ended(one, other)
    assert why(journal) is not None


def test_a_line_may_be_written_later_than_that_of_another_process() -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim("doubtful")
    other.ends("settle")
    one.ends("lose")
    _ended(one, other)
    assert why(journal) is None


def test_a_process_that_was_killed_leaves_its_claim_to_the_next() -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim("claimed")
    other.ends("settle")
    _ended(other)
    assert why(journal) is None


@pytest.mark.parametrize("found", ["free", "doubtful"])
def test_a_process_that_was_killed_may_have_ended_its_claim(found: str) -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim(found)
    other.ends("refuse")
    _ended(other)
    assert why(journal) is None
    _ended(one)
    assert why(journal) is not None, "who ended in order has told everything"


def test_a_process_may_be_killed_before_it_writes_a_line() -> None:
    journal, [one, other] = writers("a", "b")
    one.claim()
    one.ends("lose")
    other.claim("claimed")
    _ended(one, other)
    assert why(journal) is None


def test_an_end_that_was_not_written_may_count_or_not() -> None:
    for found in ("claimed", "doubtful"):
        journal, [one, other] = writers("a", "b")
        one.claim()
        one.ends("lose", recorded=False)
        other.claim(found)
        other.ends("settle")
        _ended(one, other)
        assert why(journal) is None


def test_who_lost_its_lock_writes_nothing() -> None:
    """In a database, a lock ends by itself. The late holder tells that its record failed."""
    journal, [one, other] = writers("a", "b")
    one.claim()
    other.claim("claimed")
    other.ends("settle")
    one.ends("lose", recorded=False)
    _ended(one, other)
    assert why(journal) is None


def test_before_the_first_line_anything_may_be_known() -> None:
    journal, [one, other] = writers("a", "b")
    one.ends("refuse")
    other.claim("doubtful", token=NEW)
    other.ends("withdraw", token=NEW)
    _ended(one, other)
    assert why(journal) is None


def test_a_claim_that_was_not_written_may_count_or_not() -> None:
    for found in ("free", "claimed"):
        journal, [one, other] = writers("a", "b")
        one.claim()
        one.ends("withdraw")
        one.claim(recorded=False)
        other.claim(found)
        other.ends("settle")
        _ended(one, other)
        assert why(journal) is None


def test_a_journal_in_order_is_accepted_whatever_its_length() -> None:
    journal, [one] = writers("a")
    for _ in range(6_000):
        one.claim()
        one.ends("withdraw")
    _ended(one)
    assert replay(journal).not_known == () and why(journal) is None


def test_too_many_orders_are_not_known_and_no_refusal() -> None:
    """One loses more answers than the others make good. To see that, one has to try all orders of the others."""
    journal, [one, *others] = writers(*(f"e{number}" for number in range(10)))
    for _ in range(2):
        one.claim()
        one.ends("lose")
    for other in others:
        for _ in range(9):
            other.claim()
            other.ends("lose")
            other.claim("doubtful")
            other.ends("withdraw")
    _ended(one, *others)
    found = replay(journal)
    assert (found.refusals, found.not_known) == ((), (OLD,))
    report = make_report(Journal(tuple(journal)), 0.0)
    assert (report.verdict.is_as_the_tables_say, report.verdict.not_known) == (None, ("rt-1",))
    assert "Not known: the claims on rt-1 can have happened in too many orders" in render_page(report)


def _history(seed: int) -> list[Line]:
    """Many processes use a token, some are killed, and lines are written up to 15 steps late."""
    chance = random.Random(seed)
    journal, many = writers(*(f"e{number}" for number in range(chance.choice([5, 8, 12]))))
    alive, owners, state = list(many), {one.by: one for one in many}, "free"
    for _ in range(chance.choice([20, 60, 150])):
        one = chance.choice(alive)
        found, drawn = state, chance.random()
        one.claim(found)
        state = "claimed"
        if drawn < 0.03 and len(alive) > 1:
            alive.remove(one)
            continue
        state = "free" if found == "free" and drawn > 0.1 else "doubtful"
        one.ends("withdraw" if state == "free" else "lose")
    late, latest, delay = [], dict.fromkeys(owners, 0.0), chance.choice([2, 5, 15])
    for number, line in enumerate(journal):
        latest[line.by] = max(number + chance.random() * delay, latest[line.by])
        late.append((latest[line.by], number, line))
    journal[:] = [line for *_, line in sorted(late, key=lambda one: one[:2])]
    _ended(*alive)
    return journal


def test_a_claim_that_changes_nothing_does_not_hide_a_refusal() -> None:
    journal, [one, *others] = writers(*(f"e{number}" for number in range(10)))
    one.claim()
    one.ends("withdraw")
    one.claim("doubtful")
    one.ends("withdraw")
    for other in others:
        for _ in range(9):
            other.claim()
            other.ends("withdraw")
    _ended(one, *others)
    found = replay(journal)
    assert (len(found.refusals), found.not_known) == (1, ())


@pytest.mark.parametrize("seed", range(30))
def test_lines_that_many_processes_write_late_are_accepted(seed: int) -> None:
    found = replay(_history(seed))
    assert (found.refusals, found.not_known) == ((), ())
