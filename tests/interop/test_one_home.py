"""Everything that can use one home at once: a wrapped window, `authstate run`, `authstate app-server`, and plain codex.

authstate's processes refresh under one lock and share one refresh. Plain codex takes no lock. If it starts while they
refresh, it may send the same refresh token (measured: docs/broker.md), so here it joins them once they have begun.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.test_wrap import Agent
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, WireClient, clean_environment
from support.wrapped import WRAP

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
EXEC = ("exec", "--skip-git-repo-check", "hi")
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}


@pytest.mark.parametrize("release", [OLD, NEW, "newest"])
def test_a_window_a_run_an_app_server_and_then_plain_codex(
    release: str, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    codex = str(real_parts.codex(release))
    home = make_home(config=model_config(issuer), **PERSON)
    environment = clean_environment(home, **issuer.environment)

    def start(*command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True
        )

    def says_hi(run: "subprocess.Popen[str]") -> None:
        output, errors = run.communicate(timeout=120)
        assert (run.returncode, output) == (0, "You said: hi\n"), errors

    run = start(*AUTHSTATE, "run", "--", codex, *EXEC)
    with Agent([*WRAP, codex], home, issuer) as window, WireClient(AUTHSTATE, environment) as server:
        server.initialize()
        begun = window.begin("hello")
        asked = server.start("account/rateLimits/read")
        assert window.completed(begun)["status"] == "completed"
        assert "result" in server.answer_to(asked, timeout=60)
        says_hi(run)
        says_hi(start(codex, *EXEC))
        says_hi(start(*AUTHSTATE, "run", "--", codex, *EXEC))
        assert window.turn("hello again")["status"] == "completed"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
