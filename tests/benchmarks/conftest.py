"""The programs that are measured, each with homes of its own: one with a ChatGPT login, one with an API key."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from benchmarks.side_by_side import Program
from support.codex_binaries import VERSIONS
from support.real_parts import RealParts

from authstate.testing import LoopbackIssuer

Programs = Mapping[str, Program]


@pytest.fixture(scope="session")
def issuer() -> Iterator[LoopbackIssuer]:
    """The issuer and backend of the ChatGPT logins."""
    with LoopbackIssuer() as running:
        yield running


@pytest.fixture(scope="session")
def make_programs(
    real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory, issuer: LoopbackIssuer
) -> Callable[[str], Programs]:
    """authstate and each codex by name, signed in with "chatgpt" (valid for an hour) or "apikey"."""
    script = shutil.which("authstate", path=str(Path(sys.executable).parent))
    commands = {"authstate": [script] if script else [sys.executable, "-m", "authstate.adapters.cli"]}
    commands |= {version: [str(real_parts.codex(version))] for version in VERSIONS}
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}

    def make(mode: str) -> Programs:
        programs = {}
        for name, command in commands.items():
            home = tmp_path_factory.mktemp("home")
            (home / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
            (home / "auth.json").write_text(json.dumps(_login(mode, issuer)))
            (home / "auth.json").chmod(0o600)
            environment = {**kept, **issuer.environment, "HOME": str(home), "CODEX_HOME": str(home)}
            programs[name] = Program([*command, "app-server"], environment)
        return programs

    return make


def _login(mode: str, issuer: LoopbackIssuer) -> dict[str, Any]:
    if mode == "apikey":
        return {"auth_mode": mode, "OPENAI_API_KEY": "sk-benchmark-1"}
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"auth_mode": mode, "OPENAI_API_KEY": None, "tokens": issuer.seed(), "last_refresh": now}
