"""`authstate broker` and `authstate lease` as processes, with clients that are not ours: curl, httpx and codex."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import httpx
import pytest
from interop.test_canary import Recorder
from support.brokers import BrokerService
from support.codex_turns import model_config
from support.ports import private_port
from support.vaults import add_account
from support.wire_client import AUTHSTATE, clean_environment

from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="unix sockets")
MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def authstate(
    home: Path, issuer: LoopbackIssuer, *words: str, status: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, which must have this exit status."""
    done = subprocess.run(
        [*AUTHSTATE, *words],
        env=clean_environment(home, **{**issuer.environment, **environment}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def stored(home: Path) -> dict[str, str]:
    tokens: dict[str, str] = json.loads((home / "auth.json").read_text())["tokens"]
    return tokens


def refreshes(issuer: LoopbackIssuer) -> tuple[int, int]:
    stats = issuer.stats()
    return stats["refreshes_accepted"], stats["refreshes_refused"]


def grant(url: str, handle: str) -> httpx.Response:
    sent = {"grant_type": "refresh_token", "refresh_token": handle}
    return httpx.post(f"{url}/oauth/token", data=sent, trust_env=False, timeout=60)


def curl(*arguments: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    return subprocess.run([program, "-sS", *arguments], capture_output=True, text=True, timeout=60, user=user)


# Clients


def test_curl_gets_a_bearer_through_the_socket(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(expires_in=-10, **PERSON)
    with BrokerService(home, issuer) as broker:
        got = curl("--unix-socket", str(broker.socket), "http://localhost/v1/token?format=bearer")
        assert got.stdout == stored(home)["access_token"] + "\n"
        made = curl("--unix-socket", str(broker.socket), "-d", '{"ttl": 60}', "http://localhost/v1/leases")
        handle = json.loads(made.stdout)["handle"]
        granted = curl(f"{broker.url}/oauth/token", "-d", "grant_type=refresh_token", "-d", f"refresh_token={handle}")
        assert json.loads(granted.stdout)["access_token"] == stored(home)["access_token"]
    assert refreshes(issuer) == (1, 0)


def test_a_handle_of_ten_megabytes(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("grant_type=refresh_token&refresh_token=" + "x" * 10_000_000)
    with BrokerService(make_home(**PERSON), issuer) as broker:
        for more in ([], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]):
            body = ("--data-binary", f"@{tmp_path / 'body'}", *more)
            refused = curl("-w", "%{http_code}", f"{broker.url}/oauth/token", *body)
            assert refused.stdout.endswith("413"), refused.stderr
            assert '"invalid_request"' in refused.stdout
        if sys.platform == "linux":
            status = Path(f"/proc/{broker.process.pid}/status").read_text()
            assert int(status.split("VmHWM:")[1].split()[0]) < 150_000, "kB"


def test_another_user_cannot_connect(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    if not is_root:
        pytest.skip("only root can start the process of another user")
    with BrokerService(make_home(**PERSON), issuer) as broker:
        done = curl("--unix-socket", str(broker.socket), "http://localhost/v1/token", user=65534)
        assert (done.returncode, done.stdout) == (7, "")


@pytest.mark.parametrize("way", ["exec", "refused by the backend"])
def test_codex_works_in_a_home_that_lease_new_wrote(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path, way: str
) -> None:
    home, box = make_home(**PERSON), tmp_path / "box"
    with BrokerService(home, issuer) as broker:
        authstate(home, issuer, "lease", "new", "--into", str(box), "--ttl", "10m")
        with (box / "config.toml").open("a") as config:
            config.write(model_config(issuer))
        if way != "exec":
            issuer.expire_access()
        variables = dict(line.split("=", 1) for line in (box / "authstate.env").read_text().splitlines())
        assert variables["AUTHSTATE_BROKER_URL"] == broker.url
        done = subprocess.run(
            [str(codex), "exec", "--skip-git-repo-check", "hi"],
            env=clean_environment(box, **variables, NO_PROXY="127.0.0.1"),
            cwd=box,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    assert stored(box)["refresh_token"].startswith(PREFIX)
    accepted, refused = refreshes(issuer)
    # codex sends several requests at once. One that is refused after the refresh may cause another one.
    assert accepted in ((0,) if way == "exec" else (1, 2))
    assert refused == 0
    for path in (path for path in box.rglob("*") if path.is_file()):
        assert stored(home)["refresh_token"].encode() not in path.read_bytes()


# The commands of the owner


def test_status_and_token_use_the_running_broker(
    make_home: MakeHome, issuer: LoopbackIssuer, running: ExitStack
) -> None:
    home = make_home(expires_in=-10, **PERSON)
    broker = running.enter_context(BrokerService(home, issuer))
    events = running.enter_context(httpx.Client(transport=httpx.HTTPTransport(uds=str(broker.socket)), timeout=60))
    lines = running.enter_context(events.stream("GET", "http://localhost/v1/events")).iter_lines()
    assert next(lines) == "retry: 1000"
    token = authstate(home, issuer, "token").stdout
    assert next(line for line in lines if line.startswith("event: refreshed")), "the broker did it"
    assert token == stored(home)["access_token"] + "\n"
    shown = json.loads(authstate(home, issuer, "status", "--json").stdout)
    assert shown["broker"] == {"url": broker.url, "processId": broker.process.pid}
    assert f"  broker        {broker.url} (process {broker.process.pid})" in authstate(home, issuer, "status").stdout
    assert authstate(home, issuer, "token", CODEX_API_KEY="sk-of-this-process").stdout == "sk-of-this-process\n"
    (home / "config.toml").write_text('forced_chatgpt_workspace_id = "org-other"\n')
    assert authstate(home, issuer, "token", status=1).stdout == "", "the broker began before this rule"
    (home / "config.toml").write_text("")
    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait()
    assert json.loads(authstate(home, issuer, "status", "--json").stdout)["broker"] is None
    assert authstate(home, issuer, "token").stdout == token
    assert refreshes(issuer) == (1, 0)


def test_the_broker_of_another_home_is_not_asked(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home, other = make_home(**PERSON), make_home(email="other@example.com", account_id="org-other")
    with BrokerService(home, issuer) as broker:
        place = str(broker.socket)
        assert json.loads(authstate(other, issuer, "status", "--json", AUTHSTATE_BROKER_SOCKET=place).stdout)[
            "email"
        ] == ("other@example.com")
        token = authstate(other, issuer, "token", AUTHSTATE_BROKER_SOCKET=place).stdout
        assert token == stored(other)["access_token"] + "\n"


def test_leases_from_the_beginning_to_the_end(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    home = make_home(**PERSON)
    with BrokerService(home, issuer) as broker:
        made = json.loads(authstate(home, issuer, "lease", "new", "--json", "--label", "ci").stdout)
        assert made["variables"]["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] == f"{broker.url}/oauth/token"
        assert grant(broker.url, made["handle"]).json()["access_token"] == stored(home)["access_token"]
        lines = authstate(home, issuer, "lease", "new", "--env", "--ttl", "none").stdout.splitlines()
        other = dict(line.split("=", 1) for line in lines)["AUTHSTATE_LEASE"]
        assert grant(broker.url, other).status_code == 200
        listed = authstate(home, issuer, "lease", "list").stdout
        assert f"{made['lease']['id']}  home  until " in listed
        assert listed.splitlines()[0].endswith("  ci")
        assert "home  without an end" in listed
        authstate(home, issuer, "lease", "end", made["lease"]["id"])
        refused = grant(broker.url, made["handle"])
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant"), "at once"
        assert authstate(home, issuer, "lease", "end", "--all").stdout == "Ended 1 lease.\n"
        assert grant(broker.url, other).status_code == 400
        leases = json.loads(authstate(home, issuer, "lease", "list", "--json").stdout)["leases"]
        assert [lease["state"] for lease in leases] == ["ended", "ended"]
        assert leases[0]["account"] == {"id": "home", "name": "home"}
    assert refreshes(issuer) == (0, 0)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("new",), 2, "one of the arguments --into --env --json is required"),
        (("new", "--json", "--ttl", "soon"), 2, "--ttl must be a time"),
        (("new", "--json", "--ttl", "0h"), 2, "--ttl must be a time"),
        (("new", "--json", "--ttl", "8"), 2, "--ttl must be a time"),
        (("new", "--json", "--ttl", "9999d"), 3, "at most 10 years"),
        (("new", "--json", "--broker-url", "nonsense"), 3, "--broker-url must be a URL"),
        (("new", "--json", "--broker-url", "http://example.com"), 3, "AUTHSTATE_ALLOW_HTTP_HOSTS"),
        (("new", "--into", "HOME"), 3, "holds a login already"),
        (("-c", 'authstate.account="nobody"', "new", "--json"), 3, "there is no account 'nobody'"),
        (("end", "00000000"), 3, "there is no lease 00000000"),
        (("end",), 2, "required"),
        (("list", "-c", 'cli_auth_credentials_store="ephemeral"'), 3, "use another store"),
        (("new", "--json", "-c", 'cli_auth_credentials_store="ephemeral"'), 3, "use another store"),
    ],
)
def test_a_lease_command_that_is_wrong(
    make_home: MakeHome, issuer: LoopbackIssuer, words: tuple[str, ...], status: int, said: str
) -> None:
    home = make_home(**PERSON)
    home.chmod(0o700)
    before = (home / "auth.json").read_bytes()
    done = authstate(home, issuer, "lease", *(str(home) if word == "HOME" else word for word in words), status=status)
    assert said in done.stderr
    assert done.stdout == ""
    assert (home / "auth.json").read_bytes() == before
    assert not (home / "authstate" / "leases.json").exists()


def test_a_host_that_is_allowed_without_tls(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    home, box = make_home(**PERSON), tmp_path / "box"
    words = ("lease", "new", "--into", str(box), "--broker-url", "http://host.docker.internal:4517/")
    authstate(home, issuer, *words, AUTHSTATE_ALLOW_HTTP_HOSTS="host.docker.internal")
    lines = (box / "authstate.env").read_text().splitlines()
    assert "AUTHSTATE_BROKER_URL=http://host.docker.internal:4517" in lines
    assert "AUTHSTATE_ALLOW_HTTP_HOSTS=host.docker.internal" in lines


def test_the_commands_and_the_api_show_the_same(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(**PERSON)
    asyncio.run(add_account(home, issuer, "work"))
    with BrokerService(home, issuer) as broker:
        authstate(home, issuer, "lease", "new", "--json")
        transport = httpx.HTTPTransport(uds=str(broker.socket))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as local:
            for command, path in (("account", "accounts"), ("lease", "leases")):
                ours = json.loads(authstate(home, issuer, command, "list", "--json").stdout)[path]
                theirs = local.get(f"/v1/{path}").json()[path]
                assert [without_times(one) for one in ours] == [without_times(one) for one in theirs]
            made = json.loads(authstate(home, issuer, "lease", "new", "--json").stdout)
            assert made.keys() - {"variables"} == local.post("/v1/leases").json().keys()


def without_times(members: dict[str, Any]) -> dict[str, Any]:
    """The members, without the values that are numbers here and text there."""
    return {name: None if name.endswith("At") else value for name, value in members.items()}


def test_nobody_is_signed_in(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home()
    for words in (("lease", "new", "--json"), ("broker", "adopt")):
        assert "`authstate login --account home`" in authstate(home, issuer, *words, status=1).stderr
    with BrokerService(home, issuer) as broker:
        assert grant(broker.url, "authstate_lease_" + "x" * 43).status_code == 400
        authstate(home, issuer, "token", status=1)


def test_a_home_is_adopted_and_released(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(**PERSON)
    before = stored(home)["refresh_token"]
    with BrokerService(home, issuer) as broker:
        said = authstate(home, issuer, "broker", "adopt").stdout
        assert f"export CODEX_REFRESH_TOKEN_URL_OVERRIDE={broker.url}/oauth/token" in said
        assert f"export AUTHSTATE_BROKER_URL={broker.url}" in said
        assert stored(home)["refresh_token"].startswith(PREFIX)
        assert json.loads(authstate(home, issuer, "broker", "adopt", "--json").stdout)["adopted"] is False
        seen = stored(home)["refresh_token"]
        assert grant(broker.url, seen).status_code == 200, "whoever has the current token asks for another one"
        assert refreshes(issuer) == (1, 0)
        assert authstate(home, issuer, "token").stdout == stored(home)["access_token"] + "\n"
        assert json.loads(authstate(home, issuer, "broker", "release", "--json").stdout) == {"released": True}
        after = stored(home)["refresh_token"]
        assert not after.startswith(PREFIX)
        assert after != before
        assert grant(broker.url, seen).status_code == 400
        assert "nothing to release" in authstate(home, issuer, "broker", "release").stdout


# The process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_gracefully(make_home: MakeHome, issuer: LoopbackIssuer, number: int) -> None:
    home = make_home(expires_in=-10, **PERSON)
    with BrokerService(home, issuer) as broker:
        issuer.hold("refresh", "answer")
        asked = subprocess.Popen(
            [*AUTHSTATE, "token"],
            env=clean_environment(home, **issuer.environment),
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = monotonic() + 60
        while issuer.stats()["refreshes_accepted"] == 0:
            assert monotonic() < deadline
        broker.process.send_signal(number)
        issuer.release("refresh")
        token = asked.communicate(timeout=60)[0]
        assert broker.wait() == 0
        assert "Traceback" not in broker.log
        assert token == stored(home)["access_token"] + "\n"
        assert not broker.socket.exists()
    assert refreshes(issuer) == (1, 0)


def test_it_comes_back_after_kill_9(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home, port = make_home(**PERSON), private_port()
    listen = f"127.0.0.1:{port}"
    handle = json.loads(authstate(home, issuer, "lease", "new", "--json").stdout)["handle"]
    for _ in range(3):
        with BrokerService(home, issuer, listen=listen) as broker:
            assert grant(broker.url, handle).status_code == 200
            assert broker.stop(signal.SIGKILL) == -signal.SIGKILL
            assert broker.socket.exists()


def test_two_brokers_on_one_vault(make_home: MakeHome, issuer: LoopbackIssuer, running: ExitStack) -> None:
    home = make_home(expires_in=-10, **PERSON)
    with BrokerService(home, issuer) as first:
        again = authstate(home, issuer, "broker", "--listen", "127.0.0.1:0", status=3)
        assert "another broker serves" in again.stderr
        taken = authstate(home, issuer, "broker", "--listen", first.url.removeprefix("http://"), status=3)
        assert "another broker may be running" in taken.stderr
        place = os.path.join(running.enter_context(TemporaryDirectory()), "sock")  # a short path
        with BrokerService(home, issuer, "--socket", place) as second:
            handle = json.loads(authstate(home, issuer, "lease", "new", "--json").stdout)["handle"]
            answers = [grant(broker.url, handle).json()["access_token"] for broker in (first, second, first)]
            assert answers == [stored(home)["access_token"]] * 3
    assert refreshes(issuer) == (1, 0)
    assert not os.path.exists(place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--listen", "0.0.0.0:0"), "--tls-certificate FILE"),
        (("--listen", "4517"), "ADDRESS:PORT"),
        (("--tls-certificate", "/nowhere/cert.pem"), "cannot read /nowhere/cert.pem"),
        (("--listen", "127.0.0.1:0", "--socket", "/tmp/" + "x" * 120), "AUTHSTATE_BROKER_SOCKET"),
        (("-c", 'cli_auth_credentials_store="ephemeral"'), "nothing that a broker could share"),
        (("--print-unit", "launchd", "--listen", "a\x07:1"), "cannot stand in a unit"),
        (("--print-unit", "systemd", "--socket", "/tmp/\x1b"), "cannot stand in a unit"),
    ],
)
def test_an_option_that_cannot_be_used(
    make_home: MakeHome, issuer: LoopbackIssuer, words: tuple[str, ...], said: str
) -> None:
    done = authstate(make_home(**PERSON), issuer, "broker", *words, status=3)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["a\x07", "http://a", "a:4517", "", "a b"])
@pytest.mark.parametrize("words", [(), ("--print-unit", "launchd")])
def test_a_host_that_is_no_name(make_home: MakeHome, issuer: LoopbackIssuer, words: tuple[str, ...], host: str) -> None:
    done = authstate(make_home(**PERSON), issuer, "broker", *words, "--allow-host", host, status=2)
    assert done.stderr.startswith("authstate: --allow-host must be the name of a host")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("package", ["uvicorn", "starlette", "prometheus_client", "httptools"])
def test_without_the_extra_it_says_what_to_install(make_home: MakeHome, issuer: LoopbackIssuer, package: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from authstate.adapters.cli.main import main
sys.exit(main())
"""
    home = make_home(**PERSON)
    environment = clean_environment(home, **issuer.environment)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    done = run("broker")
    assert done.returncode == 3
    assert f"needs the package {package}: run `pip install 'authstate[broker]'`" in done.stderr
    for words in (("lease", "new", "--json"), ("lease", "list"), ("broker", "adopt"), ("token",), ("status",)):
        assert run(*words).returncode == 0, words


def test_no_secret_shows(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    """Neither in the log of the broker, in debug mode, nor in what it shows beside the tokens that are asked for."""
    home = make_home(expires_in=-10, **PERSON)
    recorder = Recorder()
    recorder.learn_stored(home)
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "ignore"}
    with BrokerService(home, issuer, **debug) as broker:
        made = json.loads(authstate(home, issuer, "lease", "new", "--json").stdout)
        recorder.secrets.add(made["handle"].removeprefix(PREFIX))
        transport = httpx.HTTPTransport(uds=str(broker.socket))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as local:
            recorder.learn(grant(broker.url, made["handle"]).json())
            with local.stream("GET", "/v1/events") as stream:
                lines = stream.iter_lines()
                next(lines)
                issuer.expire_access()
                recorder.learn(grant(broker.url, stored_handle(grant(broker.url, made["handle"]))).json())
                recorder.written.append(next(line for line in lines if line.startswith("data: ")))
            for answer in (
                grant(broker.url, "rt-canary-unknown-1234567890"),
                grant(broker.url, PREFIX + "canary" + "x" * 37),
                httpx.get(f"{broker.url}/oauth/token?refresh_token=rt-canary-in-a-url", trust_env=False, timeout=60),
                httpx.get(f"{broker.url}/metrics", trust_env=False, timeout=60),
                *(local.get(path) for path in ("/v1/state", "/v1/accounts", "/v1/accounts/home", "/v1/leases")),
            ):
                recorder.written.append(answer.text)
            issuer.revoke()
            issuer.expire_access()
            refused = grant(broker.url, stored_handle(grant(broker.url, made["handle"])))
            recorder.written.append(refused.text)
        recorder.learn_stored(home)
        recorder.written += [authstate(home, issuer, "lease", "list", "--json").stdout]
        broker.stop()
        for event in ("refresh_failed", "oauth_refused endpoint=token error=invalid_grant", "lease_made"):
            assert f"event={event}" in broker.log
        recorder.written.append(broker.log)
    recorder.written += [(home / "authstate" / "leases.json").read_text()]
    recorder.secrets |= {"rt-canary-unknown-1234567890", "rt-canary-in-a-url"}
    assert len(recorder.secrets) >= 8
    recorder.assert_hidden()


def stored_handle(answer: httpx.Response) -> str:
    """The handle that a client stores: it tells the broker which access token the client has."""
    members: dict[str, Any] = answer.json()
    handle: str = members["refresh_token"]
    return handle


@pytest.mark.parametrize("step", ["adopt", "release"])
async def test_only_the_login_of_the_home_is_adopted(make_home: MakeHome, issuer: LoopbackIssuer, step: str) -> None:
    home = make_home(**PERSON)
    before = (home / "auth.json").read_bytes()
    await add_account(home, issuer, "work", email="work@example.com", account_id="org-work")
    done = authstate(home, issuer, "--account", "work", "broker", step, status=3)
    assert "the account work is another one" in done.stderr
    assert (home / "auth.json").read_bytes() == before
