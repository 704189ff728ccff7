"""A background refresh that waits for its turn."""

from collections.abc import Callable

from authstate.engine.flows.paced_refresh import PacedRefresh


class Turns:
    """A pacer whose turns a test gives."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.withdrawn = 0
        self.give: Callable[[], None] = lambda: None

    def pace(self, seconds: float, begin: Callable[[], None]) -> Callable[[], None]:
        self.asked.append(seconds)
        self.give = begin

        def withdraw() -> None:
            self.withdrawn += 1

        return withdraw


def test_without_a_pacer_it_begins_at_once() -> None:
    begun: list[str] = []
    paced = PacedRefresh()
    paced.begin(9.0, lambda: begun.append("now"))
    assert (begun, paced.is_waiting) == (["now"], False)


def test_it_waits_for_one_turn_and_may_wait_again_after_it() -> None:
    begun: list[str] = []
    paced, turns = PacedRefresh(), Turns()
    paced.pacer = turns
    paced.begin(9.0, lambda: begun.append("one"))
    paced.begin(8.0, lambda: begun.append("two"))
    assert (turns.asked, begun, paced.is_waiting) == ([9.0], [], True)
    turns.give()
    assert (begun, paced.is_waiting) == (["one"], False)
    paced.begin(7.0, lambda: begun.append("three"))
    assert turns.asked == [9.0, 7.0]


def test_a_wait_ends_once_and_another_one_may_begin() -> None:
    paced, turns = PacedRefresh(), Turns()
    paced.withdraw()
    paced.pacer = turns
    paced.begin(9.0, lambda: None)
    paced.withdraw()
    paced.withdraw()
    assert (turns.withdrawn, paced.is_waiting) == (1, False)
    paced.begin(8.0, lambda: None)
    assert (turns.asked, paced.is_waiting) == ([9.0, 8.0], True)
