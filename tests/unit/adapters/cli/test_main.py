"""The command line: what each command says, its exit status, and that bad input gets one clear line."""

import asyncio
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.paths import REPO

from authstate.adapters.child.client import HandshakeFailed
from authstate.adapters.child.command_line import CommandError
from authstate.adapters.child.process import CANNOT_RUN, NOT_FOUND, ChildNotStarted
from authstate.adapters.cli.codex import main as codex_main
from authstate.adapters.cli.demo import _DOCUMENTATION, _Demo, read_login
from authstate.adapters.cli.demo_diagram import draw_states
from authstate.adapters.cli.exit_status import ExitStatus, UsageError
from authstate.adapters.cli.main import main, parse_app_server, parse_command, report_errors
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.jsonrpc.peer import PeerClosed
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.tables.files import generated_files
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
from authstate.engine.model.states import AuthState

OF_A_CHILD = (CommandError, ChildNotStarted, HandshakeFailed, PeerClosed)
PROGRAM = [sys.executable, "-m", "authstate.adapters.cli"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that the environment names; nothing of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("CODEX_", "OPENAI_", "COV_CORE_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(folder))
    return folder


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        yield started


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def sign_in(home: Path, issuer: LoopbackIssuer, **login: Any) -> dict[str, str]:
    tokens = issuer.seed(**login)

    async def save() -> None:
        async with AuthJsonStore(home).locked() as held:
            await held.save(read_login(tokens))

    asyncio.run(save())
    return tokens


def stored(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "auth.json").read_bytes())
    return found


@pytest.mark.parametrize(
    ("line", "overrides"),
    [
        ("app-server", []),
        ("app-server --listen stdio://", []),
        ("app-server --listen=stdio://", []),
        ("-c a=1 --config b=2 app-server --listen stdio:// -c c=3", ["a=1", "b=2", "c=3"]),
        ("--config=a=b=c -cd=4 app-server", ["a=b=c", "d=4"]),
        ("-c app-server app-server", ["app-server"]),
        ("status", None),
        ("-c app-server status", None),
        ("-c", None),
        ("", None),
        ("--listen stdio:// app-server", None),
        ("app-server --help", None),
    ],
)
def test_an_app_server_call_is_told_by_hand(line: str, overrides: list[str] | None) -> None:
    assert parse_app_server(line.split()) == overrides


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("app-server --listen ws://127.0.0.1:1", "the only transport is stdio://"),
        ("app-server --listen", "--listen needs a value"),
        ("app-server -c", "-c needs a value"),
        ("app-server now", "unknown argument 'now'"),
        ("app-server app-server", "unknown argument 'app-server'"),
    ],
)
def test_a_wrong_app_server_call_is_one_line(line: str, said: str, capsys: Captured) -> None:
    assert main(line.split()) == 2
    output = capsys.readouterr()
    assert said in output.err and output.err.count("\n") == 1 and output.out == ""


def test_the_app_server_starts_without_what_it_does_not_need() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], "app-server"],
        input=b"",
        capture_output=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.decode().splitlines() if "|" in line}
    assert ran.returncode == 0
    assert ran.stdout == b""
    assert "authstate.adapters.cli.exit_status" in imported
    assert not imported & {
        "argparse",
        "httpx",
        "structlog",
        "tenacity",
        "authstate.adapters.cli.commands",
        "authstate.adapters.cli.parser",
    }


@pytest.mark.parametrize("line", ["", "nonsense", "status --nonsense", "login --with-api-key sk-secret", "-c"])
def test_a_wrong_command_line_is_exit_2(line: str, capsys: Captured) -> None:
    assert main(line.split()) == ExitStatus.USAGE
    assert "usage: authstate" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "command"), [("status --jsn", "status"), ("account list --jsn", "account list")])
def test_an_unknown_option_leads_to_the_help_of_its_command(line: str, command: str, capsys: Captured) -> None:
    assert main(line.split()) == ExitStatus.USAGE
    said = f"unrecognized arguments: --jsn: `authstate {command} --help` lists those that it takes"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "login --with-api-key {}",
        "login {}",
        "{}",
        "status --api-key={}",
        "status --with-key {}",
        "-c {} status",
        "-c {} app-server",
        "-c OPENAI_API_KEY={} login --nonsense={}",
        "app-server {}",
        "app-server --api-key={}",
        "app-server --listen {}",
        "wrap --{}",
        "wrap {}",
    ],
)
@pytest.mark.parametrize("key", ["sk-proj-canary-0123456789", "eyJhbGciOiJub25lIn0.canary.sig", "rt_canary0123456789"])
def test_what_looks_like_a_key_is_not_echoed(line: str, key: str, capsys: Captured) -> None:
    assert main(line.replace("{}", key).split()) != 0
    output = capsys.readouterr()
    assert "canary" not in output.out + output.err
    assert "--with-api-key` on standard input" in output.err or line == "wrap {}"  # its error does not name the word


def test_a_variable_that_holds_a_key_by_mistake_is_not_echoed(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name in ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_HOME"):
        monkeypatch.setenv(name, "sk-canary-0123456789")
        assert main(["status"]) != 0
        output = capsys.readouterr()
        assert "canary" not in output.out + output.err
        monkeypatch.delenv(name)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_a_home_whose_name_is_no_text_gives_no_traceback(tmp_path: Path) -> None:
    home = os.fsencode(tmp_path) + b"/h\xff"
    os.mkdir(home)
    environ = {**os.environb, b"CODEX_HOME": home}
    start = b'{"id":0,"method":"initialize","params":{"clientInfo":{"name":"x","version":"1"}}}\n'
    for words, given in ((["status"], b""), (["login", "--with-api-key"], b"sk-1"), (["app-server"], start)):
        ran = subprocess.run([*PROGRAM, *words], input=given, capture_output=True, env=environ, timeout=60)
        assert b"Traceback" not in ran.stderr + ran.stdout
        assert b"UnicodeEncodeError" not in ran.stderr + ran.stdout
    assert b'"codexHome":' in ran.stdout
    assert os.path.exists(home + b"/auth.json")


def test_help_and_version(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert main(["app-server", "--help"]) == 0
    assert "authstate 0." in capsys.readouterr().out


COMMANDS = ("app-server", "wrap", "run", "status", "login", "logout", "token", "diagram", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_what_it_does(command: str, capsys: Captured) -> None:
    assert main([command, "--help"]) == 0
    usage, description, options, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith("usage: authstate") and command in usage
    assert description.rstrip().endswith(".") and description[0].isupper()
    assert all(line.endswith(("arguments:", "options:")) or len(line) > 23 for line in options.splitlines())


def test_the_help_of_status_says_each_exit_status_that_it_can_have(home: Path, capsys: Captured) -> None:
    main(["status", "--help"])
    told = capsys.readouterr().out
    (home / "auth.json").mkdir()
    unreadable = main(["status"])
    (home / "config.toml").write_text("=")
    wrong = main(["status"])
    assert (unreadable, wrong) == (ExitStatus.TRY_LATER, ExitStatus.BAD_CONFIGURATION)
    for status in (0, 1, 2, wrong, unreadable):
        assert f"{int(status)} " in told


@pytest.mark.parametrize("line", ["-c {} login", "login -c {}", "login --config={}", "-c a=1 login -c {} -c b=2"])
def test_an_override_is_before_or_after_the_command(
    line: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"sk-one")
    words = line.format('forced_login_method="chatgpt"').split()
    assert main([*words, "--with-api-key"]) == ExitStatus.LOGIN_REFUSED
    assert "forced_login_method" in capsys.readouterr().err


def test_nobody_is_signed_in(home: Path, capsys: Captured) -> None:
    assert main(["status"]) == 1
    assert capsys.readouterr().out.startswith("Not signed in.\n")
    assert main(["status", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["signedIn"], shown["state"], shown["authMode"], shown["warnings"]) == (False, "logged_out", None, [])
    assert main(["token"]) == 1
    assert "sign in" in capsys.readouterr().err
    assert list(home.iterdir()) == []


def test_an_api_key_comes_and_goes(home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"  sk-canary-1\n")
    assert main(["login", "--with-api-key"]) == 0
    assert stored(home)["OPENAI_API_KEY"] == "sk-canary-1"
    assert main(["status"]) == 0
    assert main(["status", "--json"]) == 0
    output = capsys.readouterr()
    assert "sk-canary" not in output.out + output.err
    assert str(home) in output.out
    assert main(["token"]) == 0
    assert capsys.readouterr().out == "sk-canary-1\n"
    assert main(["logout"]) == 0
    assert not (home / "auth.json").exists()
    assert main(["logout"]) == 0
    assert main(["status"]) == 1


@pytest.mark.parametrize("data", [b"", b" \n", b"sk one two", b"\xff\xfe", "schlüssel".encode()])
def test_a_key_that_is_none_is_refused(
    data: bytes, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, data)
    assert main(["login", "--with-api-key"]) == 1
    assert capsys.readouterr().err.startswith("authstate: the API key ")
    assert not (home / "auth.json").exists()


def test_a_person_is_asked_for_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("getpass.getpass", lambda prompt: "sk-typed")
    assert main(["login", "--with-api-key"]) == 0
    assert stored(home)["OPENAI_API_KEY"] == "sk-typed"


TOKEN = "at-canary-0123456789"


def test_a_personal_access_token_comes_and_goes(
    home: Path, issuer: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.register_token(TOKEN, email="person@example.com", plan="pro", account_id="org-1")
    type_in(monkeypatch, f"  {TOKEN}\n".encode())
    assert main(["login", "--with-access-token"]) == 0
    assert stored(home) == {"OPENAI_API_KEY": None, "personal_access_token": TOKEN}
    assert main(["status"]) == 0
    assert main(["status", "--json"]) == 0
    output = capsys.readouterr()
    assert "canary" not in output.out + output.err
    assert "Signed in with a personal access token as person@example.com (workspace org-1)" in output.out
    assert "\nSigned in with a personal access token.\n  email         person@example.com\n" in output.out
    shown = json.loads(output.out[output.out.index("\n{") :])
    assert [shown[name] for name in ("signedIn", "state", "authMode", "planType", "workspaceId", "otherLogin")] == [
        *(True, "api_key", "personalAccessToken", "pro", "org-1", None)
    ]
    assert main(["token"]) == 0
    assert capsys.readouterr().out == f"{TOKEN}\n"
    assert main(["logout"]) == 0
    assert not (home / "auth.json").exists()
    assert issuer.stats()["requests"].get("/oauth/revoke") is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"sk-canary", "--with-api-key"),
        (b"at-canary two", "no HTTP header"),
        (b"at-canary\xff", "no H"),
    ],
)
def test_a_personal_access_token_that_is_none_is_refused(
    data: bytes, said: str, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, data)
    assert main(["login", "--with-access-token"]) == 1
    error = capsys.readouterr().err
    assert said in error and "canary" not in error
    assert not (home / "auth.json").exists()


@pytest.mark.parametrize(("status", "login", "code", "after"), [(401, 5, 1, 1), (403, 4, 4, 0), (500, 4, 4, 0)])
def test_a_token_that_the_issuer_does_not_confirm(
    status: int,
    login: int,
    code: int,
    after: int,
    home: Path,
    issuer: LoopbackIssuer,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer.behave("whoami", mode="status", status=status)
    type_in(monkeypatch, TOKEN.encode())
    assert main(["login", "--with-access-token"]) == login
    assert not (home / "auth.json").exists()
    (home / "auth.json").write_text(json.dumps({"personal_access_token": TOKEN}))
    assert main(["token"]) == code
    assert main(["status"]) == after
    assert main(["status", "--json"]) == after
    output = capsys.readouterr()
    assert "canary" not in output.out + output.err
    assert ("Sign in again: the issuer refused" in output.out) is (status == 401)
    shown = json.loads(output.out[output.out.index("\n{") :])
    assert (shown["signedIn"], len(shown["warnings"])) == (status != 401, 2), "the mode of the file, and the issuer"


def test_a_person_is_asked_for_the_token(
    home: Path, issuer: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.register_token(TOKEN)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("getpass.getpass", lambda prompt: TOKEN)
    assert main(["login", "--with-access-token"]) == 0
    assert stored(home)["personal_access_token"] == TOKEN
    with pytest.MonkeyPatch.context() as ctrl_d:
        ctrl_d.setattr("getpass.getpass", lambda prompt: (_ for _ in ()).throw(EOFError))
        assert main(["login", "--with-access-token"]) == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('forced_login_method="api"', "forced_login_method"),
        ('forced_chatgpt_workspace_id="org-2"', "org-1, and the configuration allows only org-2"),
    ],
)
def test_what_the_configuration_forbids_is_neither_stored_nor_printed(
    config: str, said: str, home: Path, issuer: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.register_token(TOKEN)
    type_in(monkeypatch, TOKEN.encode())
    assert main(["-c", config, "login", "--with-access-token"]) == ExitStatus.LOGIN_REFUSED
    assert said in capsys.readouterr().err
    assert not (home / "auth.json").exists()
    (home / "auth.json").write_text(json.dumps({"personal_access_token": TOKEN}))
    assert main(["-c", config, "token"]) == 1
    output = capsys.readouterr()
    assert said in output.err and output.out == ""
    assert main(["-c", config, "status"]) == 1
    assert said in capsys.readouterr().out
    assert stored(home) == {"personal_access_token": TOKEN}


def test_a_forced_login_method_forbids_the_key(home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"sk-1")
    assert main(["-c", 'forced_login_method="chatgpt"', "login", "--with-api-key"]) == ExitStatus.LOGIN_REFUSED
    assert "forced_login_method" in capsys.readouterr().err
    assert not (home / "auth.json").exists()


def test_the_key_of_the_environment_wins(home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-environment")
    assert main(["token"]) == 0
    assert capsys.readouterr().out == "sk-environment\n"
    assert main(["status"]) == 0
    assert "CODEX_API_KEY" in capsys.readouterr().err
    type_in(monkeypatch, b"sk-1")
    assert main(["login", "--with-api-key"]) == 0
    assert main(["logout"]) == 0
    assert capsys.readouterr().err.count("CODEX_API_KEY") == 2
    assert not (home / "auth.json").exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"tokens": 7}', b'{"auth_mode": "chatgpt"}'])
def test_a_corrupt_store_is_named_and_kept(data: bytes, home: Path, capsys: Captured) -> None:
    (home / "auth.json").write_bytes(data)
    assert main(["status"]) == 1
    assert str(home / "auth.json") in capsys.readouterr().out
    assert main(["token"]) == 1
    output = capsys.readouterr()
    assert str(home / "auth.json") in output.err and output.err.count("\n") == 1
    assert (home / "auth.json").read_bytes() == data


@pytest.mark.parametrize("text", ["no toml", "forced_login_method = 7", 'cli_auth_credentials_store = "shoe box"'])
@pytest.mark.parametrize("command", ["status", "token", "logout", "app-server"])
def test_a_wrong_configuration_is_one_line(text: str, command: str, home: Path, capsys: Captured) -> None:
    (home / "config.toml").write_text(text)
    assert main([command]) == ExitStatus.BAD_CONFIGURATION
    error = capsys.readouterr().err
    assert "config.toml" in error and error.count("\n") == 1


def test_a_home_that_is_a_file(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "file"))
    for command in ("status", "token", "logout"):
        assert main([command]) in (1, 3, 4)
        output = capsys.readouterr()
        assert str(tmp_path / "file") in output.out + output.err


def test_a_token_is_not_for_a_screen(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-environment")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["token"]) == 2
    assert capsys.readouterr().out == ""
    assert main(["token", "--force"]) == 0
    assert capsys.readouterr().out == "sk-environment\n"


def test_status_refreshes_what_has_expired(home: Path, issuer: LoopbackIssuer, capsys: Captured) -> None:
    old = sign_in(home, issuer, email="ada@example.com", account_id="org-7", expires_in=-60)
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Signed in with ChatGPT.\n")
    assert "ada@example.com" in text and "plus" in text and "org-7" in text and "expires in 59 minutes" in text
    assert main(["status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["signedIn"], shown["planType"], shown["failure"]) == (True, "plus", None)
    assert shown["accessTokenExpiresAt"].endswith("Z")
    assert main(["token"]) == 0
    token = capsys.readouterr().out.strip()
    assert token == stored(home)["tokens"]["access_token"] != old["access_token"]
    assert issuer.stats()["refreshes_accepted"] == 1
    assert main(["logout"]) == 0
    assert issuer.stats()["revocations"] == 1


def test_a_dead_refresh_token_is_exit_2(home: Path, issuer: LoopbackIssuer, capsys: Captured) -> None:
    sign_in(home, issuer, expires_in=-60)
    issuer.revoke()
    before = (home / "auth.json").read_bytes()
    assert main(["status"]) == 2
    text = capsys.readouterr().out
    assert text.startswith("Sign in again") and "revoked" in text
    assert main(["status", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["failure"]["reason"] == "revoked"
    assert main(["token"]) == 2
    assert "Sign in again" in capsys.readouterr().err
    assert (home / "auth.json").read_bytes() == before


def test_an_issuer_that_is_down_is_exit_4(home: Path, issuer: LoopbackIssuer, capsys: Captured) -> None:
    sign_in(home, issuer, expires_in=-60)
    issuer.behave("refresh", mode="status", status=503, retry_after=60)
    assert main(["token"]) == ExitStatus.TRY_LATER
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["status"]) == 0
    assert "warning       127.0.0.1" in capsys.readouterr().out


def test_status_waits_only_a_while_for_an_issuer_that_is_slow(
    home: Path, issuer: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authstate.adapters.cli.status._PATIENCE", 0.1)
    sign_in(home, issuer, expires_in=-3600)
    issuer.behave("refresh", mode="status", status=503)
    assert main(["status", "--json"]) == 0
    assert "has not answered yet" in json.loads(capsys.readouterr().out)["warnings"][0]
    assert main(["status"]) == 0
    assert "expired 1 hour ago" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="an event loop on Windows has no signal handlers")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_signals_during_a_refresh_lose_nothing(name: str, status: int, home: Path, issuer: LoopbackIssuer) -> None:
    old = sign_in(home, issuer, expires_in=-60)
    issuer.hold("refresh")
    with subprocess.Popen([*PROGRAM, "token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not issuer.stats()["requests"].get("/oauth/token"):
            assert process.poll() is None
        for _ in range(5):  # whoever waits for it presses Ctrl-C again
            process.send_signal(getattr(signal, name))
            issuer.stats()
        issuer.release("refresh")
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, b""), error
    assert b"Traceback" not in error
    new = stored(home)["tokens"]
    assert new["refresh_token"] != old["refresh_token"]
    issuer.behave("refresh")
    assert main(["status"]) == 0


def test_the_page_of_the_tables_is_written_alone(tmp_path: Path, capsys: Captured) -> None:
    folder, page = tmp_path / "diagrams", tmp_path / "pages" / "page.html"
    assert main(["diagram", "--html", str(page), str(folder)]) == 0
    assert capsys.readouterr().out == f"Wrote {page}.\n"
    assert page.read_text(encoding="utf-8") == generated_files(TABLES, TABLE_WORDS, {})["tables.html"]
    assert not folder.exists()
    assert main(["diagram", "--check", "--html", str(page), str(folder)]) == 0
    assert capsys.readouterr().out == f"{page} is up to date.\n"
    folder.mkdir()
    coverage = folder / "coverage.json"
    coverage.write_text(
        '{"lease": [{"state": "active", "trigger": "end", "outcome": "row", "held_by": {"unit": ["test_x.py"]}}]}'
    )
    assert main(["diagram", "--check", "--html", str(page), str(folder)]) == 1
    assert f"run `authstate diagram --html {page} {folder}`" in capsys.readouterr().err
    assert main(["diagram", "--html", str(page), str(folder)]) == 0
    assert "test_x.py" in page.read_text(encoding="utf-8")
    assert main(["diagram", "--html", str(page), "--xstate", str(folder)]) == 2
    assert "--html writes the page: use it alone" in capsys.readouterr().err
    coverage.write_text("{")
    assert main(["diagram", "--html", str(page), str(folder)]) == 1
    assert f"{coverage} is not a record of the tests" in capsys.readouterr().err


def test_diagrams_are_written_and_checked(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "some" / "diagrams"
    assert main(["diagram", "--check", str(folder)]) == 1
    assert main(["diagram", str(folder)]) == 0
    expected = generated_files(TABLES, TABLE_WORDS, {})
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == expected
    assert main(["diagram", "--check", str(folder)]) == 0
    for name in ("auth_state.mmd", "auth_state.svg", "tables.html"):
        (folder / name).write_text("else")
    capsys.readouterr()
    assert main(["diagram", "--check", str(folder)]) == 1
    assert "is out of date (auth_state.mmd, auth_state.svg, tables.html): run `" in capsys.readouterr().err
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert main(["diagram", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"authstate: cannot use {tmp_path / 'file'}: file exists\n"


def test_the_demo_shows_what_it_says_and_leaves_nothing(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9", "no_proxy": "example.com"}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    assert main(["demo"]) == 0
    assert {name: os.environ[name] for name in proxies} == proxies
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.count("[ok]") == 14
    assert output.out.isascii() and max(map(len, output.out.splitlines())) <= 80
    for state in (AuthState.CHATGPT, AuthState.EXTERNAL_TOKENS, AuthState.REFRESH_DEAD):
        assert f"| >{state}< |" in output.out
    assert "eyJ" not in output.out and "rt_" not in output.out
    assert list(folder.iterdir()) == []


CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


@pytest.mark.skipif(not CHILDREN.exists(), reason="needs a list of child processes")
async def test_a_process_of_the_demo_ends_with_it(
    home: Path, issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, started = _Demo(issuer, home, print), asyncio.Event()
    start = asyncio.create_subprocess_exec

    async def start_and_tell(*arguments: Any, **options: Any) -> Any:
        process = await start(*arguments, **options)
        started.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_tell)
    await demo.store_login()
    before = CHILDREN.read_text()
    async with AuthJsonStore(home).locked():  # so that it waits
        command = asyncio.create_task(demo.run_token_command())
        await started.wait()
        gc.disable()  # which would end it, some time later
        try:
            command.cancel()
            await asyncio.wait((command,))
            assert CHILDREN.read_text() == before
        finally:
            gc.enable()


HELD_DEMO = """
import runpy, sys
from authstate.adapters.cli import demo
start_part = demo._Demo.start_part
def hold(self, number, title):
    start_part(self, number, title)
    if number == {scene}:
        sys.stdin.read()
demo._Demo.start_part = hold
sys.argv[1:] = ["demo"]
runpy.run_module("authstate.adapters.cli", run_name="__main__", alter_sys=True)
"""
"""The demo, which goes on with this scene only once its standard input has ended."""


@contextmanager
def demo_held_at(scene: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo with temporary files in this folder that has begun a scene, and is in the middle of it."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    command, pipe = [sys.executable, "-c", HELD_DEMO.format(scene=scene)], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(f"{scene}."):
            assert process.poll() is None
        yield process


@pytest.mark.skipif(sys.platform == "win32", reason="an event loop on Windows has no signal handlers")
@pytest.mark.parametrize("scene", [1, 2, 4])
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_demo_that_is_stopped_leaves_nothing(scene: int, name: str, status: int, tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with demo_held_at(scene, folder) as process:
        process.send_signal(getattr(signal, name))
        _, error = process.communicate(timeout=60)  # to the end of stderr: no process that it started has it any more
    assert (process.returncode, error) == (status, "")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_demo_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with demo_held_at(1, folder) as process:
        process.kill()
    assert [left.name.startswith("authstate-demo-") for left in folder.iterdir()] == [True]
    environment = {**os.environ, "TMPDIR": str(folder)}
    ran = subprocess.run([*PROGRAM, "demo"], env=environment, capture_output=True, text=True, timeout=200)
    assert (ran.returncode, ran.stderr, list(folder.iterdir())) == (0, "", [])
    assert ran.stdout.endswith(f"Documentation:\n{_DOCUMENTATION}\n")


def test_a_claim_of_the_demo_that_does_not_hold_is_loud(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Demo, "refreshes", lambda self: 7)
    assert main(["demo"]) == 1
    assert "found 0, expected 1" in capsys.readouterr().err


def test_the_picture_has_every_state() -> None:
    for state in AuthState:
        assert draw_states(state).count(">" + state + "<") == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_letter_that_the_output_does_not_have_is_escaped(encoding: str, home: Path, issuer: LoopbackIssuer) -> None:
    sign_in(home, issuer, email="\u0142ukasz@example.com")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = subprocess.run([*PROGRAM, "status"], env=environment, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"  email         \\u0142ukasz@example.com" in ran.stdout


def test_errors_become_a_line(capsys: Captured) -> None:
    def fail(error: BaseException) -> int:
        raise error

    assert report_errors(lambda: fail(KeyboardInterrupt())) == 130
    assert report_errors(lambda: fail(UsageError("two\nlines"))) == 2
    assert capsys.readouterr().err == "authstate: two lines\n"
    with pytest.raises(ZeroDivisionError):
        report_errors(lambda: fail(ZeroDivisionError()))


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen([*PROGRAM, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), error) == (1, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes a stream")
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("login --with-api-key <&-", 1, "authstate: the API key is empty: give the key that the API keys page shows\n"),
        ("token >&-", 0, ""),
        ("status <&- >&-", 0, ""),
        ("app-server <&- >&-", 0, ""),
        ("-c nothing status 2>&-", 3, ""),
        ("logout <&- >&- 2>&-", 0, ""),
    ],
)
def test_a_closed_stream_is_the_null_device(line: str, status: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-environment")
    ran = subprocess.run(["sh", "-c", f'exec "$@" {line}', "sh", *PROGRAM], capture_output=True, text=True, timeout=60)
    assert ran.returncode == status
    assert ran.stdout == ""
    assert ran.stderr == said or "CODEX_API_KEY" in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_takes_nothing_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([*PROGRAM, "status"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (
        1,
        "authstate: cannot use standard input or output: no space left on device\n",
    )


def test_the_docs_list_every_exit_status() -> None:
    page = (REPO / "docs" / "errors.md").read_text(encoding="utf-8")
    assert all(f"| {status} | " in page for status in (*map(int, ExitStatus), CANNOT_RUN, NOT_FOUND))
    listed = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert {error.__name__ for error in OF_A_CHILD} <= listed


@pytest.mark.parametrize("name", ["wrap", "run"])
def test_an_account_is_named_before_the_command_of_the_child_and_later_words_are_the_childs(name: str) -> None:
    child = ["codex", "--account", "x", "app-server", "--account=y"]
    named = 'authstate.account="work"'
    for words in ([name, "--account", "work"], ["--account=work", name], ["-c", named, name]):
        assert parse_command([*words, "--", *child], name, "") == ([named], child)
        assert parse_command([*words, *child], name, "") == ([named], child)
    assert parse_app_server(["--account=a", "app-server", "--account", "b"]) == [
        'authstate.account="a"',
        'authstate.account="b"',
    ]
    assert parse_app_server(["app-server", "--account=b", "--stdio"]) == ['authstate.account="b"']


def test_the_help_of_wrap_shows_where_the_command_goes(capsys: Captured) -> None:
    assert main(["wrap", "--help"]) == 0
    assert "wrap [--account NAME] [-c KEY=VALUE] -- COMMAND" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="there is no executable without a format")
def test_a_codex_that_is_no_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    codex = tmp_path / "codex"
    codex.write_text("no program")
    monkeypatch.setenv("AUTHSTATE_CODEX", str(codex))
    assert codex_main(["--version"]) == 2
    told = capsys.readouterr().err
    assert told == f"authstate: AUTHSTATE_CODEX is {codex}, which is not a program: " + (
        "set it to the path of the real codex\n"
    )
    codex.chmod(0o755)
    assert codex_main(["--version"]) == 126
    assert capsys.readouterr().err == f"authstate: cannot start {codex}: exec format error\n"
