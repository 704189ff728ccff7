"""The pytest plugin, in runs of pytest like those of an embedder: without an async plugin, and with each of them."""

import subprocess
import sys
import tomllib
from textwrap import dedent

import pytest
from support.embedder_runs import (
    WITH_ANYIO,
    WITH_ASYNCIO_AUTO,
    WITH_ASYNCIO_STRICT,
    WITHOUT_ASYNC,
    run_as_embedder,
)
from support.paths import REPO

from authstate import AuthState
from authstate.adapters.testing import pytest_plugin

pytest_plugins = ["pytester"]

PLUGIN = "authstate.adapters.testing.pytest_plugin"
ASYNC = {
    "pytest-asyncio auto": WITH_ASYNCIO_AUTO,
    "pytest-asyncio strict": WITH_ASYNCIO_STRICT,
    "anyio": WITH_ANYIO,
}
MARKS = {"pytest-asyncio auto": "", "pytest-asyncio strict": "@pytest.mark.asyncio", "anyio": "@pytest.mark.anyio"}


def run(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """Run tests that use httpx, pytest and every public name."""
    return run_as_embedder(pytester, f"import httpx, pytest\nfrom authstate import *\n\n{dedent(text)}", *options)


def test_a_test_without_an_event_loop(pytester: pytest.Pytester) -> None:
    text = """
    def test_it(authstate_engine_chatgpt, authstate_backend, authstate_faults, authstate_transcript):
        with authstate_engine_chatgpt as engine:
            auth = SyncEngineAuth(engine)
            with httpx.Client(auth=auth, transport=authstate_backend.transport) as client:
                authstate_faults.expire()
                assert client.get("https://backend.example/usage").status_code == 200
        assert authstate_transcript == [
            "GET /usage access-1 -> 401",
            "refresh refresh-1 -> access-2 refresh-2",
            "GET /usage access-2 -> 200",
        ]
    """
    run(pytester, text, *WITHOUT_ASYNC).assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ASYNC)
def test_an_async_test(pytester: pytest.Pytester, how: str) -> None:
    text = f"""
    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    {MARKS[how]}
    async def test_it(authstate_engine_chatgpt, authstate_backend, authstate_clock, authstate_transcript):
        async with authstate_engine_chatgpt as engine:
            async with httpx.AsyncClient(auth=EngineAuth(engine), transport=authstate_backend.transport) as client:
                authstate_clock.advance(3600)
                assert (await client.get("https://backend.example/usage")).status_code == 200
        assert authstate_transcript[0] == "refresh refresh-1 -> access-2 refresh-2"

    {MARKS[how]}
    async def test_each(authstate_engine_in_each_state):
        async with authstate_engine_in_each_state as engine:
            assert isinstance(engine, AuthEngine)
    """
    run(pytester, text, *ASYNC[how]).assert_outcomes(passed=6)


def test_an_engine_is_in_the_state_of_its_fixture(pytester: pytest.Pytester) -> None:
    tests = "\n".join(
        f"""
    async def test_{state}(authstate_engine_{state}):
        async with authstate_engine_{state} as engine:
            assert engine.session.state == "{state}"
    """
        for state in AuthState
    )
    run(pytester, tests, *ASYNC["pytest-asyncio auto"]).assert_outcomes(passed=5)
    assert set(AuthState) == set(pytest_plugin.STATES)


def test_an_issuer_on_loopback_is_new_in_each_test(pytester: pytest.Pytester) -> None:
    text = """
    @pytest.mark.parametrize("turn", [1, 2])
    def test_it(authstate_issuer, turn):
        authstate_issuer.faults.be_down()
        authstate_issuer.hold("backend")
        assert authstate_issuer.transcript == [] and authstate_issuer.stats()["requests"] == {}
        seeded = authstate_issuer.seed()
        url, body = authstate_issuer.refresh_url, {"grant_type": "refresh_token", "refresh_token": "x"}
        assert httpx.post(url, json=body, trust_env=False).status_code == 503
        authstate_issuer.faults.clear()
        body["refresh_token"] = seeded["refresh_token"]
        assert httpx.post(url, json=body, trust_env=False).status_code == 200
        assert authstate_issuer.transcript == [
            "refresh refresh-2 -> unavailable",
            "refresh refresh-1 -> access-2 refresh-3",
        ]
    """
    run(pytester, text, *WITHOUT_ASYNC).assert_outcomes(passed=2)


def test_an_issuer_that_a_test_stopped_is_started_again(pytester: pytest.Pytester) -> None:
    text = """
    @pytest.mark.parametrize("turn", [1, 2])
    def test_it(authstate_issuer, turn):
        assert authstate_issuer.is_running and authstate_issuer.stats()["exchanges"] == 0
        process = authstate_issuer._process
        authstate_issuer.stop()
        assert not authstate_issuer.is_running
        assert process.poll() is not None, "nobody else can take its port while it runs, and somebody may afterwards"
    """
    run(pytester, text, *WITHOUT_ASYNC).assert_outcomes(passed=2)


def test_the_clock_of_an_engine_in_a_thread_is_advanced_there(pytester: pytest.Pytester) -> None:
    text = """
    def test_it(authstate_engine_chatgpt, authstate_clock, authstate_transcript):
        with authstate_engine_chatgpt as engine:
            first = engine.authorization()
            engine.call(lambda _: authstate_clock.elapse(3600))
            assert engine.authorization().token != first.token
    """
    run(pytester, text, *WITHOUT_ASYNC).assert_outcomes(passed=1)


def test_code_that_opens_its_engine_itself_uses_the_home_of_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-of-the-developer")
    text = """
    import os

    async def usage():
        config = load_config()
        async with open_engine(config) as engine, httpx.AsyncClient(auth=EngineAuth(engine)) as client:
            return await client.get(f"{config.chatgpt_base_url}/wham/usage")

    async def test_tokens(authstate_home):
        authstate_home.sign_in(plan="pro", expires_in=-60)
        assert (await usage()).json()["plan_type"] == "pro"
        assert authstate_home.issuer.transcript == [
            "refresh refresh-1 -> access-2 refresh-2",
            "GET /backend-api/wham/usage access-2 -> 200",
        ]
        assert (authstate_home.path / "auth.json").stat().st_mode & 0o777 == 0o600 or os.name == "nt"

    async def test_a_key(authstate_home):
        authstate_home.sign_in_with_key("sk-of-the-test")
        assert (await usage()).status_code == 200

    async def test_nobody(authstate_home):
        authstate_home.sign_in()
        authstate_home.sign_out()
        with pytest.raises(NotSignedIn):
            await usage()
    """
    run(pytester, text, *ASYNC["pytest-asyncio auto"]).assert_outcomes(passed=3)


def test_an_engine_that_is_not_started_says_so(pytester: pytest.Pytester) -> None:
    text = """
    def test_it(authstate_engine_chatgpt):
        with pytest.raises(AttributeError, match="start the engine first: `async with .* engine.session`"):
            authstate_engine_chatgpt.session
        with authstate_engine_chatgpt, pytest.raises(RuntimeError, match="entered before"):
            authstate_engine_chatgpt.__enter__()
    """
    run(pytester, text, *WITHOUT_ASYNC).assert_outcomes(passed=1)


def test_a_failure_shows_the_transcript_and_no_secret(pytester: pytest.Pytester) -> None:
    text = """
    async def test_it(authstate_engines, authstate_transcript):
        async with authstate_engines.chatgpt() as engine:
            await engine.refresh()
            assert authstate_transcript == ["refresh refresh-1 -> refused: revoked"]
    """
    result = run(pytester, text, *ASYNC["pytest-asyncio auto"], "-vv", "--showlocals")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*refresh refresh-1 -> access-2 refresh-2*"])
    for secret in ("rt-test", "rt-fake", "eyJ"):
        assert secret not in result.stdout.str()


def test_a_plain_run_does_not_notice_the_plugin(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(): pass", *WITHOUT_ASYNC)
    result.assert_outcomes(passed=1)
    fixtures = run(pytester, "def test_it(): pass", *WITHOUT_ASYNC, "--fixtures").stdout.lines
    ours = [line for line in fixtures if "pytest_plugin.py" in line and "testing" in line]
    assert ours and all(line.startswith("authstate_") for line in ours)


def test_the_plugin_is_announced() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"authstate": PLUGIN}


def test_loading_the_plugin_imports_almost_nothing() -> None:
    code = f"import pytest, sys; before = set(sys.modules); import {PLUGIN}; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPO / ".src", capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) == {
        *("authstate", "authstate._lazy_names", "authstate.engine", "authstate.engine.version"),
        *("authstate.adapters", "authstate.adapters.testing", PLUGIN),
    }
