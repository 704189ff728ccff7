"""Fixtures: a broker with one account."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.broker_in_memory import BrokerInMemory, broker_in


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerInMemory]:
    """A broker, and the issuer in memory."""
    home = tmp_path / "home"
    home.mkdir()
    async with broker_in(home) as made:
        yield made
