"""Logins that codex uses by itself: nobody acts beside them, and nothing removes those that are not managed here."""

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.fake_keyring import FakeKeyring, fake_keyring

from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode, unmanaged_logins
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import SERVICE, account_of_home
from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import StoreUnreadable
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

__all__ = ["fake_keyring"]
OTHERS: list[dict[str, Any]] = [
    {"auth_mode": "bedrockApiKey", "bedrock_api_key": {"api_key": "k-canary-1", "region": "us-east-1"}},
    {"bedrock_api_key": {"api_key": "k-canary-1"}, "OPENAI_API_KEY": "sk-canary-1"},
    {"bedrock_access_keys": {"access_key_id": "AK-canary-1"}},
    {"auth_mode": "agentIdentity", "agent_identity": {"x": "canary-1"}},
    {"agent_identity": "x.canary-1.y"},
    {"auth_mode": "headers"},
]
WORKLOAD = (
    *("OPENAI_IDENTITY_TOKEN_FILE", "OPENAI_FEDERATION_RULE_ID"),
    *("OPENAI_IDENTITY_TOKEN_SOURCE", "OPENAI_SPIFFE_AUDIENCE"),
)
ECHO = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    for name in ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN", *WORKLOAD):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("stored", OTHERS)
async def test_a_stored_one_is_not_nobodys(stored: dict[str, Any], home: Path) -> None:
    data = json.dumps(stored)
    (home / "auth.json").write_text(data)
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        assert isinstance(engine.store_fault, StoreUnreadable)
        assert "does not manage" in str(engine.store_fault)
        assert "canary" not in str(engine.store_fault)
        with pytest.raises(StoreUnreadable):
            await engine.log_out()
    assert (home / "auth.json").read_text() == data


async def test_one_beside_tokens_counts_as_codex_counts_it(home: Path) -> None:
    """Measured with 0.171.0: without `auth_mode` the token wins, with `auth_mode` the mode decides."""
    login = {"tokens": _tokens(), "personal_access_token": "at-1"}
    for stored, managed in ((login, False), ({"auth_mode": "chatgpt", **login}, True)):
        (home / "auth.json").write_text(json.dumps(stored))
        async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
            assert isinstance(engine.session.credentials, ChatgptTokens if managed else PersonalAccessToken)
        assert (unmanaged_logins.find_in_file(str(home / "auth.json")) is None) is managed


def _tokens() -> dict[str, Any]:
    made = make_tokens()
    names = ("id_token", "access_token", "refresh_token")
    return {name: getattr(made, name).reveal() for name in names} | {"account_id": "org-1"}


async def test_a_sign_in_takes_its_place_and_keeps_its_member(home: Path) -> None:
    (home / "auth.json").write_text(json.dumps(OTHERS[0]))
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        await engine.complete_chatgpt_login(make_tokens())
    stored = json.loads((home / "auth.json").read_text())
    assert (stored["auth_mode"], stored["bedrock_api_key"]["api_key"]) == ("chatgpt", "k-canary-1")


@pytest.mark.parametrize("stored", OTHERS)
async def test_a_refresh_never_overwrites_one_that_was_stored_meanwhile(stored: dict[str, Any], home: Path) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthJsonStore(home).locked() as held:
        await held.save(tokens)
    async with AuthEngine(AuthJsonStore(home), authority) as engine:
        (home / "auth.json").write_text(json.dumps(stored))
        with pytest.raises(StoreUnreadable):
            await engine.refresh()
    assert json.loads((home / "auth.json").read_text()) == stored
    assert authority.sent == []


@pytest.mark.parametrize("stored", OTHERS)
def test_status_names_it_and_logout_leaves_it(
    stored: dict[str, Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.dumps(stored)
    (home / "auth.json").write_text(data)
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    other = unmanaged_logins.find_in_file(str(home / "auth.json"))
    assert "does not manage" in shown and f"codex uses    {other}\n" in shown
    assert "what to do" not in shown, "a sign-in would replace it"
    assert main(["status", "--json"]) == 1
    assert other is not None
    assert json.loads(capsys.readouterr().out)["otherLogin"] == {"kind": other.kind, "source": None}
    assert main(["token"]) == 1
    assert "does not manage" in capsys.readouterr().err
    assert main(["logout"]) != 0
    output = capsys.readouterr()
    assert "does not manage" in output.err and "canary" not in output.out + output.err
    assert (home / "auth.json").read_text() == data


@pytest.mark.parametrize(
    ("named", "kind", "name"),
    [
        ({"CODEX_ACCESS_TOKEN": "at-canary-2"}, "personalAccessToken", "a personal access token"),
        ({"CODEX_ACCESS_TOKEN": "eyJ.canary.x"}, "agentIdentity", "an agent identity"),
        *(({variable: "canary"}, "workloadIdentity", "a workload identity") for variable in WORKLOAD),
        (
            {"OPENAI_FEDERATION_RULE_ID": "canary", "CODEX_ACCESS_TOKEN": "at-canary-2"},
            "workloadIdentity",
            "a workload identity",
        ),
    ],
)
def test_one_of_the_environment_is_named_and_nobody_acts_beside_it(
    named: dict[str, str],
    kind: str,
    name: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (home / "auth.json").write_text('{"auth_mode": "apikey", "OPENAI_API_KEY": "sk-canary-3"}')
    for variable, value in named.items():
        monkeypatch.setenv(variable, value)
    source = next(iter(named))
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert f"codex uses    {name} ({source}) instead of what is stored" in text and "canary" not in text
    assert main(["status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["otherLogin"] == {"kind": kind, "source": source}
    for command in ("app-server", "token"):
        assert main([command]) == 3
        output = capsys.readouterr()
        assert source in output.err and "canary" not in output.out + output.err
    assert main(["logout"]) == 0, "as in codex, which deletes what is stored"
    assert source in capsys.readouterr().err
    assert not (home / "auth.json").exists()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"sk-canary-4")))
    assert main(["login", "--with-api-key"]) == 0
    assert source in capsys.readouterr().err


def test_the_api_key_of_the_environment_wins_over_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `codex exec`: measured with 0.171.0."""
    monkeypatch.setenv("CODEX_ACCESS_TOKEN", "at-canary-2")
    monkeypatch.setenv("CODEX_API_KEY", "sk-environment")
    assert main(["token"]) == 0
    assert capsys.readouterr().out == "sk-environment\n"


@pytest.mark.parametrize("name", WORKLOAD)
def test_a_workload_identity_is_found_in_dotenv_and_an_access_token_is_not(name: str, home: Path) -> None:
    """codex ignores what begins with CODEX_ there."""
    (home / ".env").write_text(f"CODEX_ACCESS_TOKEN=at-canary\n{name}=canary\n")
    other = unmanaged_logins.find_in_environment(os.environ)
    assert other is not None and other.kind == "workloadIdentity" and other.source == f"{name} in {home / '.env'}"
    (home / ".env").write_text("CODEX_ACCESS_TOKEN=at-canary\n")
    assert unmanaged_logins.find_in_environment(os.environ) is None


@pytest.mark.parametrize("command", ["wrap", "run"])
@pytest.mark.parametrize(
    ("account", "is_left_alone"), [(None, True), ("home", True), ("work", False), ("selected", False)]
)
def test_what_stands_in_the_home_does_not_count_where_another_account_is_used(
    command: str, account: str | None, is_left_alone: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "auth.json").write_text('{"personal_access_token": "at-1"}')
    vault = Vault(home, StoreMode.FILE)
    work = vault.add("work").id

    async def sign_in() -> None:
        async with vault.store(work).locked() as held:
            await held.save(make_tokens())

    asyncio.run(sign_in())
    if account == "selected":
        vault.select(work)
    elif account is not None:
        monkeypatch.setenv("AUTHSTATE_ACCOUNT", account)
    words = [sys.executable, "-m", "authstate.adapters.cli", command, "--", *ECHO, "app-server"]
    ran = subprocess.run(words, input=b"", capture_output=True, timeout=60)
    assert ("codex uses a personal access token by itself" in ran.stderr.decode()) is is_left_alone


@pytest.mark.parametrize(
    ("named", "stored", "is_wrapped"),
    [
        ({"CODEX_ACCESS_TOKEN": "at-1"}, None, False),
        ({"OPENAI_IDENTITY_TOKEN_FILE": "/f", "OPENAI_FEDERATION_RULE_ID": "r"}, None, False),
        ({"OPENAI_IDENTITY_TOKEN_FILE": "/f"}, None, False),
        ({"CODEX_ACCESS_TOKEN": " "}, None, True),
        ({}, {"bedrock_access_keys": {}}, False),
        ({}, {"personal_access_token": "at-1"}, False),
        ({}, {"personal_access_token": None, "OPENAI_API_KEY": "sk-1"}, True),
        ({}, None, True),
    ],
)
def test_wrap_leaves_the_child_its_own_login(
    named: dict[str, str], stored: dict[str, Any] | None, is_wrapped: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    if stored is not None:
        (home / "auth.json").write_text(json.dumps(stored))
    command = [sys.executable, "-m", "authstate.adapters.cli", "wrap", "--", *ECHO, "app-server"]
    ran = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    said = ran.stdout.decode()
    assert ("ephemeral" in said) is is_wrapped, "the store is taken from a child whose login is ours, and from no other"
    assert ("is not wrapped" in ran.stderr.decode()) is not is_wrapped


@pytest.mark.parametrize(
    "data", [b"", b"personal_access_token", b'{"personal_access_token', b'["personal_access_token"]']
)
def test_what_is_no_record_is_no_other_login(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_bytes(data)
    assert unmanaged_logins.find_in_file(str(tmp_path / "auth.json")) is None
    assert unmanaged_logins.find_in_file(str(tmp_path / "missing")) is None


async def test_a_logout_of_the_environments_key_leaves_the_stored_login() -> None:
    stored = make_tokens()
    store = MemoryStore(stored)
    async with AuthEngine(
        store, FakeAuthority(), clock=ManualClock(), api_key=ApiKey.parse("sk-environment")
    ) as engine:
        await engine.log_out()
        assert engine.session.credentials is None
    assert await store.load() == stored


CHATGPT = {"auth_mode": "chatgpt", "tokens": {}}
PERSONAL = {"personal_access_token": "at-canary-1"}


@pytest.mark.parametrize(
    ("mode", "entry", "file", "found"),
    [
        ("file", PERSONAL, None, False),
        ("keyring", PERSONAL, None, True),
        ("keyring", OTHERS[0], None, True),
        ("keyring", CHATGPT, PERSONAL, False),
        ("keyring", None, PERSONAL, False),
        ("auto", PERSONAL, None, True),
        ("auto", PERSONAL, CHATGPT, True),
        ("auto", CHATGPT, PERSONAL, False),
        ("auto", None, PERSONAL, True),
        ("auto", None, CHATGPT, False),
        ("ephemeral", PERSONAL, PERSONAL, False),
    ],
)
@pytest.mark.parametrize("said", ["config", "override", "system"])
def test_one_in_the_keyring_is_found_where_the_configuration_says_so(
    mode: str, entry: Any, file: Any, found: bool, said: str, home: Path, fake_keyring: FakeKeyring, tmp_path: Path
) -> None:
    setting = f'cli_auth_credentials_store = "{mode}"'
    etc = tmp_path / "etc"
    etc.mkdir()
    if said == "config":
        (home / "config.toml").write_text(setting)
    elif said == "system":
        (etc / "managed_config.toml").write_text(setting)
    if entry is not None:
        fake_keyring.entries[SERVICE, account_of_home(home)] = json.dumps(entry)
    if file is not None:
        (home / "auth.json").write_text(json.dumps(file))
    overrides = [setting] if said == "override" else ["model=x"]
    other = unmanaged_logins.find_unmanaged_login(os.environ, overrides, str(etc))
    assert (other is not None) is found
    assert "canary" not in str(other)
    assert mode in ("keyring", "auto") or fake_keyring.calls == [], "no keyring is asked that nobody named"


def test_a_keyring_that_does_not_answer_holds_nobody_up(
    home: Path, fake_keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text('cli_auth_credentials_store = "keyring"')
    monkeypatch.setattr(unmanaged_logins, "_KEYRING_WITHIN", 0.05)
    fake_keyring.gate.clear()
    assert unmanaged_logins.find_unmanaged_login(os.environ, system=None) is None
    fake_keyring.gate.set()
    for thread in threading.enumerate():
        if thread.name == "authstate-keyring":
            thread.join(30)
    fake_keyring.is_locked = True
    assert unmanaged_logins.find_unmanaged_login(os.environ, system=None) is None


@pytest.mark.parametrize("text", ["cli_auth_credentials_store =", "cli_auth_credentials_store = 3", "\xff"])
def test_a_configuration_that_cannot_be_read_is_told_later(text: str, home: Path, fake_keyring: FakeKeyring) -> None:
    (home / "config.toml").write_bytes(text.encode("latin-1"))
    (home / "auth.json").write_text(json.dumps(PERSONAL))
    assert unmanaged_logins.find_unmanaged_login(os.environ, system=None) is not None
    assert fake_keyring.calls == []


@pytest.mark.parametrize(("name", "key"), [("CODEX_API_KEY", "sk-canary two words"), ("OPENAI_API_KEY", "\x01")])
@pytest.mark.parametrize(
    "arguments", [["app-server"], ["wrap", "--", *ECHO, "app-server"], ["logout"], ["login", "--with-api-key"]], ids=str
)
def test_a_key_that_cannot_be_used_stops_nothing_that_does_not_act_with_it(
    arguments: list[str], name: str, key: str, home: Path
) -> None:
    """No release's app-server, login or logout reads the variable: measured with 0.93.0, 0.169.0 and 0.171.0."""
    command = [sys.executable, "-m", "authstate.adapters.cli", *arguments]
    given = b"sk-good-1234" if "login" in arguments else b""
    ran = subprocess.run(command, input=given, capture_output=True, timeout=60, env={**os.environ, name: key})
    assert ran.returncode == 0, ran.stderr
    assert b"canary" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("command", ["status", "token"])
def test_what_acts_with_the_key_says_that_it_cannot_be_used(command: str, home: Path) -> None:
    environ = {**os.environ, "CODEX_API_KEY": "sk canary"}
    ran = subprocess.run(
        [sys.executable, "-m", "authstate.adapters.cli", command], capture_output=True, timeout=60, env=environ
    )
    assert ran.returncode == 3
    assert b"CODEX_API_KEY" in ran.stderr and b"canary" not in ran.stdout + ran.stderr
