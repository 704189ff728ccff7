"""Fixtures for tests of code that uses authstate. pytest loads them in every environment with authstate.

Each name begins with `authstate_`. pytest imports this module at the start of every run, so it imports nothing else:
what a fixture needs is imported when a test asks for it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from authstate.adapters.testing.engines import EngineInState, Engines
    from authstate.adapters.testing.fake_backend import FakeBackend
    from authstate.adapters.testing.faults import Faults
    from authstate.adapters.testing.loopback_home import LoopbackHome
    from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
    from authstate.adapters.testing.manual_clock import ManualClock
    from authstate.adapters.testing.transcript import Transcript

STATES = ("logged_out", "api_key", "chatgpt", "external_tokens", "refresh_dead")


# In memory


@pytest.fixture
def authstate_engines() -> "Engines":
    """Makes engines in any state, on an issuer, a backend and a clock in memory: `authstate_engines.chatgpt()`."""
    from authstate.adapters.testing.engines import Engines

    return Engines()


@pytest.fixture
def authstate_clock(authstate_engines: "Engines") -> "ManualClock":
    """The clock of the engines and the issuer in memory. It stands still until the test advances it."""
    return authstate_engines.clock


@pytest.fixture
def authstate_backend(authstate_engines: "Engines") -> "FakeBackend":
    """The backend in memory. `authstate_backend.transport` is the transport of an httpx client that reaches it."""
    return authstate_engines.backend


@pytest.fixture
def authstate_faults(authstate_engines: "Engines") -> "Faults":
    """Faults of the issuer and the backend in memory. Those on loopback are `authstate_issuer.faults`."""
    return authstate_engines.faults


@pytest.fixture
def authstate_transcript(authstate_engines: "Engines") -> "Transcript":
    """What was sent to the issuer and the backend in memory. What was on loopback is `authstate_issuer.transcript`."""
    return authstate_engines.transcript


@pytest.fixture
def authstate_engine_logged_out(authstate_engines: "Engines") -> "EngineInState":
    """An engine with which nobody is signed in: `async with authstate_engine_logged_out as engine`."""
    return authstate_engines.logged_out()


@pytest.fixture
def authstate_engine_api_key(authstate_engines: "Engines") -> "EngineInState":
    """An engine that is signed in with an API key: `async with authstate_engine_api_key as engine`."""
    return authstate_engines.api_key()


@pytest.fixture
def authstate_engine_chatgpt(authstate_engines: "Engines") -> "EngineInState":
    """An engine with a ChatGPT login: `async with authstate_engine_chatgpt as engine`."""
    return authstate_engines.chatgpt()


@pytest.fixture
def authstate_engine_external_tokens(authstate_engines: "Engines") -> "EngineInState":
    """An engine with the tokens of a parent application: `async with authstate_engine_external_tokens as engine`."""
    return authstate_engines.external_tokens()


@pytest.fixture
def authstate_engine_refresh_dead(authstate_engines: "Engines") -> "EngineInState":
    """An engine whose refresh token is dead: `async with authstate_engine_refresh_dead as engine`."""
    return authstate_engines.refresh_dead()


@pytest.fixture(params=STATES)
def authstate_engine_in_each_state(authstate_engines: "Engines", request: pytest.FixtureRequest) -> "EngineInState":
    """An engine in each of the five states: a test that uses it runs five times."""
    return authstate_engines.in_state(request.param)


# On loopback


@pytest.fixture(scope="session")
def authstate_issuer_process() -> "Iterator[LoopbackIssuer]":
    """The process of `authstate_issuer`. Ask for that instead: it is as good as new in each test."""
    from authstate.adapters.testing.loopback_issuer import LoopbackIssuer

    with LoopbackIssuer() as issuer:
        yield issuer


@pytest.fixture
def authstate_issuer(authstate_issuer_process: "LoopbackIssuer") -> "LoopbackIssuer":
    """A real issuer, backend and model on loopback. Nobody is signed in, and it behaves normally."""
    if not authstate_issuer_process.is_running:  # a test stopped it
        authstate_issuer_process.stop()
        authstate_issuer_process.start()
    authstate_issuer_process.reset()
    return authstate_issuer_process


@pytest.fixture
def authstate_home(
    authstate_issuer: "LoopbackIssuer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "LoopbackHome":
    """A home on the loopback issuer, which the environment variables of this process name while the test runs.

    So `open_engine()` and `load_config()` use it, and so does a program that the test starts.
    """
    from authstate.adapters.testing.loopback_home import LoopbackHome

    home = LoopbackHome(tmp_path / "codex-home", authstate_issuer)
    for name in [name for name in os.environ if name.startswith(("CODEX_", "AUTHSTATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    return home
