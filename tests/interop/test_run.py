"""`authstate run`: unmodified codex processes on a home of today, and on the home of another account.

The real codex binaries run turns with the loopback model. A small Python program stands for commands that are no codex.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.vaults import add_account
from support.wire_client import AUTHSTATE, clean_environment

from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
RUN = (*AUTHSTATE, "run", "--")
EXEC = ("exec", "--skip-git-repo-check", "hi")
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}
COLLEAGUE = {"email": "colleague@example.com", "account_id": "org-colleague", "expires_in": -10}


@pytest.fixture(params=[OLD, NEW, "newest"])
def codex(request: pytest.FixtureRequest, real_parts: RealParts) -> Path:
    """One codex binary. The newest release is tested as well."""
    return real_parts.codex(request.param)


def start(command: Sequence[str], home: Path, issuer: LoopbackIssuer, **more: str) -> "subprocess.Popen[str]":
    environment = clean_environment(home, **{**issuer.environment, **more})
    return subprocess.Popen(
        command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True
    )


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def tokens_in(home: Path) -> dict[str, str]:
    tokens: dict[str, str] = json.loads((home / "auth.json").read_text())["tokens"]
    return tokens


def test_many_runs_on_a_home_of_today_spend_its_refresh_token_once(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer), **PERSON)
    before = tokens_in(home)["refresh_token"]
    runs = [start([*RUN, str(codex), *EXEC], home, issuer) for _ in range(3)]
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert (run.returncode, output) == (0, "You said: hi\n"), errors
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert tokens_in(home)["refresh_token"] != before


def test_codex_without_run_goes_on_with_what_a_run_stored(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer), **PERSON)
    for command in ([*RUN, str(codex), *EXEC], [str(codex), *EXEC]):
        run = start(command, home, issuer)
        assert run.communicate(timeout=120)[0] == "You said: hi\n"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


async def test_each_run_acts_as_the_account_that_it_was_given(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer), **PERSON)
    account = await add_account(home, issuer, "work", **COLLEAGUE)
    runs = [
        start([*RUN, str(codex), *EXEC], home, issuer),
        start([*RUN, str(codex), *EXEC], home, issuer, AUTHSTATE_ACCOUNT="work"),
        start([*AUTHSTATE, "run", "-c", "authstate.account=work", "--", str(codex), *EXEC], home, issuer),
    ]
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert (run.returncode, output) == (0, "You said: hi\n"), errors
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (2, 0)
    leased = tokens_in(home / "authstate" / "homes" / account)
    assert leased["refresh_token"].startswith(PREFIX)
    assert leased["account_id"] == "org-colleague"
    assert tokens_in(home)["account_id"] == "org-person"
    assert len(list((home / "sessions").rglob("*.jsonl"))) == 3


def test_authstate_inside_of_a_run_asks_the_issuer_itself(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(**PERSON)
    run = start([*RUN, *AUTHSTATE, "run", "--", *AUTHSTATE, "token"], home, issuer)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output.strip()) == (0, tokens_in(home)["access_token"]), errors
    assert issuer.stats()["refreshes_accepted"] == 1


SHOW = """
import json, os, sys
names = [name for name in os.environ if name.startswith(("CODEX_", "AUTHSTATE_")) or name.lower() == "no_proxy"]
print(json.dumps({"environment": {name: os.environ[name] for name in names}, "input": sys.stdin.read()}))
"""


def test_the_command_has_our_streams_and_an_environment_without_secrets(
    make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(**PERSON)
    proxies = {"HTTPS_PROXY": "http://proxy.invalid:1", "NO_PROXY": "intranet.invalid"}
    environment = clean_environment(home, **{**issuer.environment, **proxies})
    done = subprocess.run(
        [*RUN, *python(SHOW)], env=environment, input="hello", capture_output=True, text=True, timeout=60
    )
    shown = json.loads(done.stdout)
    assert shown["input"] == "hello"
    ours = shown["environment"]
    base = ours["AUTHSTATE_BROKER_URL"]
    assert base.startswith("http://127.0.0.1:")
    assert ours["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] == f"{base}/oauth/token"
    assert ours["CODEX_REVOKE_TOKEN_URL_OVERRIDE"] == f"{base}/oauth/revoke"
    assert ours["AUTHSTATE_REFRESH_TOKEN_URL"] == issuer.refresh_url
    assert ours["CODEX_HOME"] == str(home)
    assert ours["NO_PROXY"] == ours["no_proxy"] == "intranet.invalid,127.0.0.1,localhost"
    assert not any(secret in done.stdout for secret in tokens_in(home).values() if len(secret) > 20)


@pytest.mark.parametrize("status", [0, 3, 77])
def test_the_exit_status_is_that_of_the_command(make_home: MakeHome, issuer: LoopbackIssuer, status: int) -> None:
    run = start([*RUN, *python(f"raise SystemExit({status})")], make_home(**PERSON), issuer)
    assert run.communicate(timeout=60) == ("", "")
    assert run.returncode == status


def test_nobody_is_signed_in(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    run = start([*RUN, *python("print(1)")], make_home(), issuer)
    said = "authstate: nobody is signed in to the account home: sign in with `authstate login --account home`\n"
    assert run.communicate(timeout=60) == ("1\n", said)
    assert run.returncode == 0


def test_a_signal_that_ends_the_command_ends_the_run(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    run = start([*RUN, *python("import os; os.kill(os.getpid(), 9)")], make_home(), issuer)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1"])
def test_signals_reach_the_command(make_home: MakeHome, issuer: LoopbackIssuer, name: str) -> None:
    script = f"""
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}])
print("ready", flush=True)
signal.sigwait([signal.{name}])
sys.exit(9)
"""
    run = start([*RUN, *python(script)], make_home(), issuer)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    run.send_signal(getattr(signal, name))
    run.communicate(timeout=60)
    assert run.returncode == 9


def test_a_signal_that_comes_before_the_broker_runs(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    script = 'trap "exit 9" TERM; kill -TERM $PPID; read line; exit 1'
    environment = clean_environment(make_home(), **issuer.environment)
    with subprocess.Popen([*RUN, "sh", "-c", script], env=environment, stdin=subprocess.PIPE) as run:
        assert run.wait(timeout=60) == 9


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run"], 2, "run needs a command"),
        (["run", "--no-such-option", "--", "true"], 2, "unknown argument '--no-such-option' of run"),
        (["run", "--", "/no/such/program"], 127, "there is no such program"),
        (["run", "-c", "authstate.account=nobody", "--", "true"], 3, "there is no account 'nobody'"),
        (["run", "-c", "authstate.account=7", "--", "true"], 3, "must be the name of an account"),
        (["run", "-c", "cli_auth_credentials_store=nonsense", "--", "true"], 3, "cli_auth_credentials_store"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    make_home: MakeHome, issuer: LoopbackIssuer, arguments: list[str], status: int, said: str
) -> None:
    run = start([*AUTHSTATE, *arguments], make_home(**PERSON), issuer)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == status
    assert said in errors
    assert len(errors.splitlines()) == 1


async def test_an_account_in_which_nobody_is_signed_in(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home()
    await add_account(home, issuer, "work", **COLLEAGUE)
    out = start([*AUTHSTATE, "logout"], home, issuer, AUTHSTATE_ACCOUNT="work")
    assert out.communicate(timeout=60) is not None
    run = start([*RUN, "true"], home, issuer, AUTHSTATE_ACCOUNT="work")
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "nobody is signed in to the account work" in errors


def test_a_login_of_another_kind_is_left_to_codex(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(auth={"personal_access_token": "pat-canary-1"})
    before = (home / "auth.json").read_bytes()
    run = start([*RUN, *python(SHOW)], home, issuer)
    output, errors = run.communicate(timeout=60)
    assert "the command runs without a broker" in errors
    assert "AUTHSTATE_BROKER_URL" not in json.loads(output)["environment"]
    assert (home / "auth.json").read_bytes() == before


def test_a_refresh_that_is_under_way_is_stored_although_the_command_has_ended(
    make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(**PERSON)
    script = """
import json, os, sys, threading, urllib.request
tokens = json.load(open(os.path.join(os.environ["CODEX_HOME"], "auth.json")))["tokens"]
body = json.dumps({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}).encode()
request = urllib.request.Request(
    os.environ["CODEX_REFRESH_TOKEN_URL_OVERRIDE"], body, {"Content-Type": "application/json"}
)
threading.Thread(target=urllib.request.urlopen, args=(request,), daemon=True).start()
sys.stdin.read()
os._exit(0)
"""
    before = tokens_in(home)["refresh_token"]
    issuer.hold("refresh", "answer", times=1)
    environment = clean_environment(home, **issuer.environment)
    with subprocess.Popen([*RUN, *python(script)], env=environment, stdin=subprocess.PIPE) as run:
        while not issuer.stats()["requests"].get("/oauth/token"):
            assert run.poll() is None
        assert run.stdin is not None
        run.stdin.close()
        issuer.release("refresh")
        assert run.wait(timeout=60) == 0
    assert tokens_in(home)["refresh_token"] != before
    assert os.path.exists(home / "auth.json.authstate.claims")


def test_a_login_that_codex_replaced_after_the_command_has_loaded_it(
    make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """A codex without authstate takes no lock and leaves no claim."""
    home = make_home(**PERSON)
    script = """
import json, os, sys, urllib.request
path = os.path.join(os.environ["CODEX_HOME"], "auth.json")
body = json.dumps({"grant_type": "refresh_token", "refresh_token": json.load(open(path))["tokens"]["refresh_token"]})
print("loaded", flush=True)
sys.stdin.readline()
request = urllib.request.Request(
    os.environ["CODEX_REFRESH_TOKEN_URL_OVERRIDE"], body.encode(), {"Content-Type": "application/json"}
)
print(json.load(urllib.request.urlopen(request))["access_token"] == json.load(open(path))["tokens"]["access_token"])
"""
    environment = clean_environment(home, **issuer.environment)
    command = [*RUN, *python(script)]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "loaded\n"
        stored = json.loads((home / "auth.json").read_text())
        body = {"grant_type": "refresh_token", "refresh_token": stored["tokens"]["refresh_token"]}
        stored["tokens"] |= httpx.post(issuer.refresh_url, json=body, trust_env=False, timeout=60).json()
        (home / "auth.json").write_text(json.dumps(stored))
        assert run.communicate("\n", timeout=60)[0] == "True\n"
    assert run.returncode == 0
    assert issuer.stats()["refreshes_accepted"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of other processes")
def test_a_process_that_the_command_leaves_is_named(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    script = """
import subprocess, sys
left = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=sys.stdin, stdout=2, stderr=2)
print(left.pid, flush=True)
"""
    environment = clean_environment(make_home(**PERSON), **issuer.environment)
    command = [*RUN, *python(script)]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, stderr=-1, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        pid = run.stdout.readline().strip()
        said = run.stderr.readline()
        assert f"({pid})" in said
        assert "codex app-server daemon stop" in said
        assert run.wait(timeout=60) == 0
