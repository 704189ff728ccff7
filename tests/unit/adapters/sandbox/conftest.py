"""A sandbox in this process, and a client of its control API."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.sandbox_client import SandboxClient

from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.server import RunningSandbox


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    with RunningSandbox(tmp_path_factory.mktemp("sandbox")) as started:
        yield started


@pytest.fixture
def sandbox(running: RunningSandbox, tmp_path: Path) -> Iterator[RunningSandbox]:
    """One for all tests of a file, which begins anew for each of them."""
    with running.state.lock:
        running.state.reset()
    fill(tmp_path, running, None)
    yield running
    with running.state.lock:
        running.state.clear_faults()


@pytest.fixture
def control(sandbox: RunningSandbox) -> Iterator[SandboxClient]:
    with httpx.Client(base_url=sandbox.pointing.url, trust_env=False, timeout=30) as http:
        yield SandboxClient(http)
