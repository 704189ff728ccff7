"""Fixtures: what answers in the place of a broker."""

from collections.abc import Callable, Iterator

import pytest
from support.health_server import health_servers


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Starts a server that answers every GET with a body, and returns its URL."""
    with health_servers() as start:
        yield start
