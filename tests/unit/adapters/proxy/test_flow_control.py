"""A gate keeps what passes in order, whoever holds it; a reader is paused as long as there is a reason."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from authstate.adapters.proxy.flow_control import Gate, ReadControl


class Reader:
    def __init__(self) -> None:
        self.is_paused = False
        self.changes = 0

    def pause_reading(self) -> None:
        assert not self.is_paused, "paused twice"
        self.is_paused = True
        self.changes += 1

    def resume_reading(self) -> None:
        assert self.is_paused, "resumed while it reads"
        self.is_paused = False
        self.changes += 1


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=20), st.integers(0, 20))
@settings(max_examples=200)
def test_a_reader_is_paused_exactly_while_there_is_a_reason(steps: list[tuple[bool, str]], comes: int) -> None:
    control, reader, reasons = ReadControl(), Reader(), set()
    for number, (stops, reason) in enumerate(steps):
        if number == comes:
            control.attach(reader)
        if stops:
            control.pause(reason)
            reasons.add(reason)
        else:
            control.resume(reason)
            reasons.discard(reason)
        if number >= comes:
            assert reader.is_paused == bool(reasons)


class GateMachine(RuleBasedStateMachine):
    """A gate against a list: what was passed on is what came in, once nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader()
        source = ReadControl()
        source.attach(self.reader)
        self.out: list[bytes] = []
        self.gate = Gate(self.out.append, source)
        self.come: list[bytes] = []
        self.holders = 0
        self.changes = self.begun = 0

    @rule(size=st.sampled_from([1, 5, 400_000]))
    def bytes_come(self, size: int) -> None:
        data = bytes([len(self.come) % 256]) * size
        before = len(self.out)
        self.come.append(data)
        self.gate.let_pass(data)
        assert (len(self.out) > before) == (self.holders == 0)

    @rule()
    def somebody_holds(self) -> None:
        self.gate.hold()
        self.holders += 1

    @precondition(lambda self: self.holders > 0)
    @rule()
    def somebody_releases(self) -> None:
        self.holders -= 1
        self.gate.release()

    @rule(holds=st.booleans())
    def a_change_comes(self, holds: bool) -> None:
        place = sum(map(len, self.come))

        def begin() -> None:
            assert sum(map(len, self.out)) == place, "it began before what came before it had passed"
            self.begun += 1
            if holds:
                self.somebody_holds()

        self.changes += 1
        self.gate.change(begin)

    @invariant()
    def order_is_kept(self) -> None:
        assert b"".join(self.come).startswith(b"".join(self.out))
        assert self.gate.has_change == (self.begun < self.changes)
        if self.holders == 0:
            assert b"".join(self.out) == b"".join(self.come)
            assert self.begun == self.changes
            assert not self.reader.is_paused

    @invariant()
    def what_waits_is_bounded(self) -> None:
        waiting = sum(map(len, self.come)) - sum(map(len, self.out))
        assert self.reader.is_paused == (waiting > 1024 * 1024)


TestGate = GateMachine.TestCase


def test_a_gate_that_is_forced_open_stays_open() -> None:
    out: list[bytes] = []
    gate = Gate(out.append, ReadControl())
    gate.hold()
    gate.let_pass(b"a")
    gate.force()
    gate.hold()
    gate.let_pass(b"b")
    gate.release()
    assert out == [b"a", b"b"]
