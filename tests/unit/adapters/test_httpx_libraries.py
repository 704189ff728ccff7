"""One `EngineAuth` for httpx and httpx2: at run time, for type checkers, and without httpx2."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.http_libraries import PortalEngine, each_library

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

USER_CODE = """
import httpx
import httpx2
import openai

from authstate import AuthEngine, EngineAuth, SyncAuthEngine, SyncEngineAuth, sync_token_provider, token_provider


async def with_an_engine(engine: AuthEngine) -> None:
    auth = EngineAuth(engine, origins=["https://backend.example"])
    httpx.AsyncClient(auth=auth)
    await httpx.AsyncClient().get("https://backend.example", auth=auth)
    httpx2.AsyncClient(auth=auth)
    await httpx2.AsyncClient().get("https://backend.example", auth=auth)
    openai.AsyncOpenAI(api_key="unused", http_client=openai.DefaultAsyncHttpxClient(auth=auth))
    openai.AsyncOpenAI(api_key=token_provider(engine))


def with_a_sync_engine(engine: SyncAuthEngine) -> None:
    auth = SyncEngineAuth(engine)
    httpx.Client(auth=auth)
    httpx.get("https://backend.example", auth=auth)
    httpx2.Client(auth=auth)
    httpx2.get("https://backend.example", auth=auth)
    openai.OpenAI(api_key="unused", http_client=openai.DefaultHttpxClient(auth=auth))
    openai.OpenAI(api_key=sync_token_provider(engine))


def confused(engine: AuthEngine, sync_engine: SyncAuthEngine) -> None:
    EngineAuth(sync_engine)  # MISTAKE
    SyncEngineAuth(engine)  # MISTAKE
    openai.OpenAI(api_key=token_provider(engine))  # MISTAKE
"""


@pytest.fixture
def user_code(tmp_path: Path) -> Path:
    path = tmp_path / "user_code.py"
    path.write_text(USER_CODE)
    return path


def lines_of_mistakes() -> set[int]:
    return {number for number, line in enumerate(USER_CODE.splitlines(), 1) if line.endswith("# MISTAKE")}


def reported_lines(output: str) -> set[int]:
    return {int(line.split(":")[1]) for line in output.splitlines() if ": error:" in line or " - error:" in line}


@pytest.mark.timeout(1000)
def test_mypy_accepts_it_for_both_libraries_and_finds_mistakes(user_code: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-error-summary", user_code.name]
    ran = subprocess.run(command, cwd=user_code.parent, capture_output=True, text=True, timeout=900)
    assert reported_lines(ran.stdout) == lines_of_mistakes(), ran.stdout + ran.stderr


@pytest.mark.timeout(1000)
def test_pyright_accepts_it_for_both_libraries_and_finds_mistakes(user_code: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, user_code.name]
    ran = subprocess.run(command, cwd=user_code.parent, capture_output=True, text=True, timeout=900)
    assert reported_lines(ran.stdout) == lines_of_mistakes(), ran.stdout + ran.stderr


@each_library
def test_a_client_takes_it(library: Any) -> None:
    engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority())
    assert library.AsyncClient(auth=EngineAuth(engine)).auth is not None
    with start_blocking_portal() as portal:
        assert library.Client(auth=SyncEngineAuth(PortalEngine(engine, portal))).auth is not None


def test_an_engine_of_the_other_kind_is_refused() -> None:
    engine: Any = AuthEngine(MemoryStore(), FakeAuthority())
    with pytest.raises(TypeError, match="give an AuthEngine to EngineAuth"):
        SyncEngineAuth(engine)
    with start_blocking_portal() as portal:
        sync_engine: Any = PortalEngine(engine, portal)
        with pytest.raises(TypeError, match="give this engine to SyncEngineAuth"):
            EngineAuth(sync_engine)


def run(code: str) -> None:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


WITHOUT_HTTPX2 = """
import sys
sys.modules["httpx2"] = None  # an import of it raises ImportError
import httpx
from authstate import EngineAuth, SyncEngineAuth
from authstate.testing import FakeAuthority, MemoryStore
from authstate import AuthEngine
httpx.AsyncClient(auth=EngineAuth(AuthEngine(MemoryStore(), FakeAuthority())))
"""

AFTER_AN_ALIAS = """
import httpx2
httpx2.alias_httpx()
from authstate import AuthEngine, EngineAuth
from authstate.testing import FakeAuthority, MemoryStore
httpx2.AsyncClient(auth=EngineAuth(AuthEngine(MemoryStore(), FakeAuthority())))
"""


@pytest.mark.parametrize("code", [WITHOUT_HTTPX2, AFTER_AN_ALIAS], ids=["not installed", "the same as httpx"])
def test_httpx2_may_be_missing_or_take_the_place_of_httpx(code: str) -> None:
    run(code)


def test_httpx2_is_not_imported_before_requests_are_authorized() -> None:
    run("import authstate, sys; authstate.open_engine; assert not {'httpx', 'httpx2'} & set(sys.modules)")
