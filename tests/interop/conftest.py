"""Fixtures: the real codex binaries, a loopback issuer, and homes whose configuration points to it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop.scenario_runs import ScenarioRuns
from support.codex_binaries import VERSIONS
from support.homes import fill
from support.real_parts import RealParts

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]


@pytest.fixture(scope="session")
def binaries(real_parts: RealParts) -> dict[str, Path]:
    """The codex binary of each version."""
    return {version: real_parts.codex(version) for version in VERSIONS}


@pytest.fixture(params=VERSIONS)
def codex(request: pytest.FixtureRequest, binaries: dict[str, Path]) -> Path:
    """One codex binary; the test runs once for each version."""
    return binaries[request.param]


@pytest.fixture(scope="session")
def chromium(real_parts: RealParts) -> Path:
    """The browser."""
    return real_parts.chromium()


@pytest.fixture
def issuer() -> Iterator[LoopbackIssuer]:
    """A real issuer and backend over HTTP on loopback."""
    with LoopbackIssuer() as running:
        yield running


@pytest.fixture
def make_home(tmp_path: Path, issuer: LoopbackIssuer) -> MakeHome:
    """Makes homes: `make_home()` is empty but for its configuration, `make_home(**login)` has a ChatGPT login,
    and `auth` or `raw` is what auth.json holds.
    """
    count = iter(range(1000))

    def make(**content: Any) -> Path:
        return fill(tmp_path / f"home-{next(count)}", issuer, **content)

    return make


@pytest.fixture(scope="session")
def scenario_runs(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> ScenarioRuns:
    """What authstate and each codex make of the scenes of traces.py."""
    return ScenarioRuns(binaries, tmp_path_factory.mktemp("plays"))


@pytest.fixture(scope="session")
def schemas(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of JSON Schemas that each binary prints."""
    folders = {}
    for version, binary in binaries.items():
        folder = tmp_path_factory.mktemp(f"schema-{version}")
        command = [str(binary), "app-server", "generate-json-schema", "--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        folders[version] = folder
    return folders


@pytest.fixture(scope="session")
def sdk(real_parts: RealParts) -> Iterator[Any]:
    """The SDK's module."""
    folder = str(real_parts.sdk())
    sys.path.append(folder)
    try:
        import openai_codex

        yield openai_codex
    finally:
        sys.path.remove(folder)
