"""The claims of several processes on one token: which orders of their steps there can be."""

import pytest
from unit.adapters.report.histories import NEW, Writer, writers

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.replay import replay
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
