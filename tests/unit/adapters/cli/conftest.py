"""Fixtures: a home, and what answers in the place of a broker."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.health_server import health_servers

from authstate.adapters.cli import broker_place


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which `CODEX_HOME` names. No other variable of codex, OpenAI or authstate is set."""
    for name in list(os.environ):
        if name.startswith(("CODEX_", "OPENAI_", "AUTHSTATE_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers in the place of a broker is never too slow, however busy the machine is."""
    monkeypatch.setattr(broker_place, "_PROBE_WITHIN", 60.0)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Starts a server that answers every GET with a body, and returns its URL."""
    with health_servers() as start:
        yield start
