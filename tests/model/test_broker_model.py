"""Random switches, leases, revocations and refreshes with the real broker, compared with a small reference model."""

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.broker_model import STEPS, BrokerModel

SWITCHES = 1000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_switches_amid_leases_and_revocations(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    model = BrokerModel(tmp_path, random)
    try:
        while model.counts.get("switches", 0) < SWITCHES:
            (step,) = random.choices(list(STEPS), list(STEPS.values()))
            step(model)
            model.check()
    finally:
        model.close()
    counts = model.counts
    wanted = ("sign-ins", "sign-outs", "leases", "ended leases", "outages", "revocations at the issuer", "expiries")
    assert all(counts.get(what, 0) >= 10 for what in wanted), counts
    assert min(counts[what] for what in ("tokens for leases", "tokens for logins", "refused for good")) > 50, counts


class BrokerMachine(RuleBasedStateMachine):
    """The steps in an order that hypothesis chooses, and shortens when one fails."""

    model: BrokerModel

    @initialize(seed=st.integers(0, 1 << 16))
    def begin(self, seed: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.model = BrokerModel(Path(self.folder.name), Random(seed))

    @rule(step=st.sampled_from(list(STEPS)))
    def take(self, step: object) -> None:
        assert callable(step)
        step(self.model)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "model"):
            self.model.check()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.close()
            self.folder.cleanup()


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
