"""Personal access tokens and the other logins that codex uses by itself: authstate and codex make the same of them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW, newest
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, WireClient, clean_environment

from authstate.adapters.config.unmanaged_logins import find_in_environment
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import StoreUnreadable
from authstate.testing import LoopbackIssuer, make_jwt

MakeHome = Callable[..., Path]
TOKEN = "at-interop-0123456789"
STORED = {"OPENAI_API_KEY": None, "personal_access_token": TOKEN}
PERSON = {"email": "person@example.com", "plan": "pro", "account_id": "org-1"}
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("account/read", {}),
    ("account/read", {"refreshToken": True}),
    ("getAuthStatus", {"includeToken": True, "refreshToken": False}),
    ("getAuthStatus", {"includeToken": True, "refreshToken": True}),
)


@pytest.fixture(scope="module", params=[NEW, "newest"])
def codex(request: pytest.FixtureRequest, real_parts: RealParts) -> Path:
    """0.169.0, and the newest release."""
    return real_parts.codex(newest() if request.param == "newest" else request.param)


@pytest.fixture(autouse=True)
def token(issuer: LoopbackIssuer) -> None:
    issuer.register_token(TOKEN, **PERSON)


def run(command: Any, home: Path, issuer: LoopbackIssuer, stdin: str = "", **more: str) -> tuple[int, str]:
    environment = clean_environment(home, **issuer.environment, **more)
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def answers(command: Any, home: Path, issuer: LoopbackIssuer) -> list[Any]:
    """What an app-server answers: the members that authstate knows."""
    with WireClient([str(word) for word in command], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        found = [client.result(method, params) for method, params in QUESTIONS]
    known = ("account", "requiresOpenaiAuth", "authMethod", "authToken")
    shown = [{name: value for name, value in answer.items() if name in known} for answer in found]
    for answer in shown:
        (answer.get("account") or {}).pop("workspaceName", None)
    return shown


async def test_each_loads_what_the_other_wrote(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    theirs, ours = make_home(), make_home()
    assert run([codex, "login", "--with-access-token"], theirs, issuer, TOKEN + "\n")[0] == 0
    status, said = run([*AUTHSTATE, "login", "--with-access-token"], ours, issuer, TOKEN + "\n")
    assert status == 0 and "person@example.com" in said
    written = [(home / "auth.json").read_bytes() for home in (theirs, ours)]
    assert written[0] == written[1], "codex writes it so"
    for home in (theirs, ours):
        stored = await AuthJsonStore(home).load()
        assert isinstance(stored, PersonalAccessToken) and stored.token.reveal() == TOKEN
        assert "personal access token" in run([codex, "login", "status"], home, issuer)[1]
        assert run([*AUTHSTATE, "token"], home, issuer) == (0, f"{TOKEN}\n")
        assert json.loads(run([*AUTHSTATE, "status", "--json"], home, issuer)[1])["authMode"] == "personalAccessToken"


def test_each_reads_the_rate_limits_of_the_owner(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    for command in ([str(codex)], AUTHSTATE):
        environment = clean_environment(make_home(auth=STORED), **issuer.environment)
        with WireClient(command, environment) as client:
            client.initialize()
            assert client.result("account/rateLimits/read")["rateLimits"]["planType"] == "pro"


@pytest.mark.parametrize(
    "config",
    [
        "",
        'forced_login_method = "chatgpt"',
        'forced_login_method = "api"',
        'forced_chatgpt_workspace_id = "org-1"',
        'forced_chatgpt_workspace_id = "org-2"',
    ],
)
def test_the_account_api_answers_the_same(
    config: str, codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    theirs, ours = (make_home(config=config, auth=STORED) for _ in range(2))
    assert answers(AUTHSTATE, ours, issuer) == answers([codex], theirs, issuer)
    assert json.loads((ours / "auth.json").read_text()) == STORED
    logins = [
        run([*command, "login", "--with-access-token"], make_home(config=config), issuer, TOKEN)[0] == 0
        for command in ([codex], AUTHSTATE)
    ]
    assert logins[0] is logins[1]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_both_show_nobody_when_the_issuer_does_not_say_whose_it_is(
    status: int, codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    issuer.behave("whoami", mode="status", status=status)
    theirs, ours = (make_home(auth=STORED) for _ in range(2))
    shown = answers(AUTHSTATE, ours, issuer)
    assert shown == answers([codex], theirs, issuer)
    assert shown[0]["account"] is None
    for command in ([codex], AUTHSTATE):
        home = make_home()
        assert run([*command, "login", "--with-access-token"], home, issuer, TOKEN)[0] != 0
        assert not (home / "auth.json").exists()


def test_a_wrapped_app_server_keeps_its_token(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(auth=STORED)
    with WireClient([*AUTHSTATE, "wrap", "--", str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("getAuthStatus", {})["authMethod"] == "personalAccessToken"
        assert client.result("account/read", {})["account"]["email"] == "person@example.com"
    assert json.loads((home / "auth.json").read_text()) == STORED


CHATGPT = {
    "tokens": {
        "id_token": make_jwt(email="a@example.com"),
        "access_token": make_jwt(exp=9e9),
        "refresh_token": "rt-1",
        "account_id": "org-1",
    },
    "last_refresh": "2026-11-22T22:10:11.123456Z",
}
PERSONAL = {"personal_access_token": TOKEN}
KEY = {"OPENAI_API_KEY": "sk-interop"}
BEDROCK = {"bedrock_api_key": {"api_key": "k", "region": "us-east-1"}}
ACCESS_KEYS = {"bedrock_access_keys": {"access_key_id": "a", "secret_access_key": "b"}}


@pytest.mark.parametrize(
    ("stored", "said", "kind"),
    [
        ({**PERSONAL, **KEY}, "personal access token", PersonalAccessToken),
        ({**PERSONAL, **CHATGPT}, "personal access token", PersonalAccessToken),
        ({**PERSONAL, **BEDROCK}, "personal access token", PersonalAccessToken),
        ({**PERSONAL, "agent_identity": "x.y.z"}, "personal access token", PersonalAccessToken),
        ({"auth_mode": "personalAccessToken", **PERSONAL}, "personal access token", PersonalAccessToken),
        ({"auth_mode": "apikey", **KEY, **PERSONAL}, "API key", ApiKey),
        ({"auth_mode": "chatgpt", **CHATGPT, **PERSONAL}, "ChatGPT", ChatgptTokens),
        ({"agent_identity": "x.y.z", **CHATGPT}, "ChatGPT", ChatgptTokens),
        ({**BEDROCK, **KEY}, "Amazon Bedrock API key", "bedrockApiKey"),
        ({**ACCESS_KEYS, **KEY}, "Amazon Bedrock AWS access keys", "bedrockAccessKeys"),
    ],
    ids=str,
)
async def test_the_same_member_of_a_record_counts(
    stored: dict[str, Any], said: str, kind: Any, codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(auth=stored)
    assert said in run([codex, "login", "status"], home, issuer)[1]
    if isinstance(kind, str):
        with pytest.raises(StoreUnreadable) as caught:
            await AuthJsonStore(home).load()
        assert caught.value.other_login == kind
    else:
        assert isinstance(await AuthJsonStore(home).load(), kind)


def test_the_token_of_the_environment_wins_in_codex_and_is_named(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(auth={"auth_mode": "apikey", **KEY})
    named = {"CODEX_ACCESS_TOKEN": TOKEN}
    with WireClient([str(codex)], clean_environment(home, **issuer.environment, **named)) as client:
        client.initialize()
        mode = client.result("getAuthStatus", {})["authMethod"]
    other = find_in_environment({"CODEX_HOME": str(home), **named})
    assert other is not None and other.kind == mode
    shown = json.loads(run([*AUTHSTATE, "status", "--json"], home, issuer, **named)[1])
    assert shown["otherLogin"] == {"kind": mode, "source": "CODEX_ACCESS_TOKEN"}


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize("name", ["OPENAI_IDENTITY_TOKEN_FILE", "OPENAI_FEDERATION_RULE_ID"])
def test_one_variable_of_a_workload_identity_is_enough(
    name: str, place: str, codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """codex then uses nothing else: it refuses to start if another variable is missing."""
    home = make_home(auth={"auth_mode": "apikey", **KEY})
    named = {name: "x"} if place == "environment" else {}
    if place == ".env":
        (home / ".env").write_text(f"{name}=x\n")
    assert "workload identity" in run([codex, "login", "status"], home, issuer, **named)[1]
    other = find_in_environment({"CODEX_HOME": str(home), **named})
    assert other is not None and other.kind == "workloadIdentity"
    for command in ("token", "app-server"):
        status, said = run([*AUTHSTATE, command], home, issuer, **named)
        assert status == 3 and name in said
