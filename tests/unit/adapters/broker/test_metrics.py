"""The metrics of a broker, beside what the application shows of them (test_app.py)."""

import pytest
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker import metrics
from authstate.adapters.broker.metrics import OTHER_ACCOUNTS, BrokerMetrics
from authstate.engine.model.errors import IssuerUnavailable
from authstate.engine.model.events import RefreshFailed


async def test_many_accounts_are_counted_together(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_LABELS", 2)
    shown = BrokerMetrics(world.broker)
    for account in ("a", "b", "c", "d", "a"):
        world.broker.events.emit(account, RefreshFailed(IssuerUnavailable("down"), permanent=False))
    text = (await shown.text("text/plain"))[0].decode()
    lines = {line for line in text.splitlines() if line.startswith("authstate_refreshes_total")}
    assert lines == {
        'authstate_refreshes_total{account="a",result="transient"} 2.0',
        'authstate_refreshes_total{account="b",result="transient"} 1.0',
        f'authstate_refreshes_total{{account="{OTHER_ACCOUNTS}",result="transient"}} 2.0',
    }
