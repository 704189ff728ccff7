"""authstate beside the real codex: each reads what the other wrote, and both give the same answers."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from codex_binaries import NEW, VERSIONS
from differences import ANY, AUTHSTATE_MEMBERS, CODEX_MEMBERS, DIFFERENCES, Difference
from traces import SCENES, Scene, play
from wire_client import AUTHSTATE, Message, WireClient, clean_environment

from authstate.adapters.stores.auth_json import AuthJsonStore
from authstate.adapters.testing import LoopbackIssuer
from authstate.engine.credentials import ApiKey, ChatgptTokens

MakeHome = Callable[..., Path]
KEY = "sk-interop-0123456789"
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name.replace(" ", "-"))


def run(command: list[str], home: Path, issuer: LoopbackIssuer, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = clean_environment(home, **issuer.environment)
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=60)


def login_status(codex: Path, home: Path, issuer: LoopbackIssuer) -> str:
    """What `codex login status` says of a home where it must find somebody signed in."""
    done = run([str(codex), "login", "status"], home, issuer)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def sign_in_by_codex(codex: Path, home: Path, issuer: LoopbackIssuer, **login: Any) -> None:
    """Let codex 0.169.0 sign somebody in with a device code, and write auth.json."""
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        started = client.result("account/login/start", {"type": "chatgptDeviceCode"})
        issuer.approve_device(started["userCode"], **login)
        client.drain(3)
        assert any(message.get("method") == "account/login/completed" for message in client.received)
    assert (home / "auth.json").exists()


def refresh_token_in(home: Path) -> str:
    token: str = json.loads((home / "auth.json").read_text())["tokens"]["refresh_token"]
    return token


# Each reads what the other wrote


async def test_an_api_key_that_codex_stored_loads(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home()
    assert run([str(codex), "login", "--with-api-key"], home, issuer, KEY + "\n").returncode == 0
    stored = await AuthJsonStore(home).load()
    assert isinstance(stored, ApiKey)
    assert stored.key.reveal() == KEY


async def test_tokens_that_codex_refreshed_load_and_can_be_refreshed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    before = refresh_token_in(home)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    by_codex = await AuthJsonStore(home).load()
    assert isinstance(by_codex, ChatgptTokens)
    assert by_codex.refresh_token.reveal() != before
    assert (by_codex.account.email, by_codex.account.plan_type) == ("person@example.com", "pro")
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    assert refresh_token_in(home) != by_codex.refresh_token.reveal()
    assert issuer.stats()["refreshes_refused"] == 0


def test_codex_understands_an_api_key_that_authstate_stored(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    assert run([*AUTHSTATE, "login", "--with-api-key"], home, issuer, KEY + "\n").returncode == 0
    assert "API key" in login_status(codex, home, issuer)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("account/read", {})["account"] == {"type": "apiKey"}
        assert client.result("getAuthStatus", {"includeToken": True})["authToken"] == KEY


def test_codex_understands_tokens_that_authstate_refreshed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    assert "ChatGPT" in login_status(codex, home, issuer)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("account/read", {"refreshToken": True})["account"]["email"] == "person@example.com"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (2, 0)


def test_codex_finds_nobody_after_authstate_signed_out(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    assert run([*AUTHSTATE, "logout"], home, issuer).returncode == 0
    assert run([str(codex), "login", "status"], home, issuer).returncode == 1


# The same trace, the same answers


def without(outcome: list[Any], names: set[tuple[str, str]]) -> list[Any]:
    """The outcome without the members that are listed for its methods."""
    return [
        (method, _pruned(content, {name for where, name in names if where == method})) for method, content in outcome
    ]


def _pruned(content: Any, names: set[str]) -> Any:
    if isinstance(content, dict):
        return {name: _pruned(item, names) for name, item in content.items() if name not in names}
    return content


def listed(version: str, scene: str, step: str) -> Difference | None:
    found = [item for item in DIFFERENCES if version in item.versions and (scene, step) in item.places]
    return found[0] if found else None


def matches(outcome: list[Any], expected: list[Any]) -> bool:
    if len(outcome) != len(expected):
        return False
    for (method, content), (wanted_method, wanted) in zip(outcome, expected, strict=True):
        if method != wanted_method or (isinstance(content, int) if wanted == ANY else content != wanted):
            return False
    return True


@scenes
def test_the_same_answers(scene: Scene, binaries: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    ours, _ = play(scene, AUTHSTATE, make_home(**scene.home), issuer)
    wrong = []
    for version in VERSIONS:
        theirs, _ = play(scene, [str(binaries[version])], make_home(**scene.home), issuer)
        only_codex = {(where, name) for number, where, name in CODEX_MEMBERS if number == version}
        only_ours = {(where, name) for number, where, name in AUTHSTATE_MEMBERS if number == version}
        for step in scene.steps:
            codex, authstate = without(theirs[step.name], only_codex), without(ours[step.name], only_ours)
            difference = listed(version, scene.name, step.name)
            if difference is None:
                agrees = codex == authstate
            else:
                agrees = matches(codex, difference.codex) and matches(authstate, difference.authstate)
            if not agrees:
                wrong.append(f"{version}, {step.name}:\n  codex     {codex}\n  authstate {authstate}")
    assert not wrong, "\n".join(wrong)


def test_each_listed_difference_is_of_a_step_that_exists() -> None:
    places = {(scene.name, step.name) for scene in SCENES for step in scene.steps}
    assert {place for difference in DIFFERENCES for place in difference.places} <= places
    reasons = [difference.reason for difference in DIFFERENCES] + [*CODEX_MEMBERS.values(), *AUTHSTATE_MEMBERS.values()]
    assert all(reasons)


# The schemas

RESULTS = {
    "initialize": "InitializeResponse",
    "account/read": "GetAccountResponse",
    "account/login/start": "LoginAccountResponse",
    "account/login/cancel": "CancelLoginAccountResponse",
    "account/logout": "LogoutAccountResponse",
    "account/rateLimits/read": "GetAccountRateLimitsResponse",
    "getAuthStatus": "GetAuthStatusResponse",
}
NOT_IN_SCHEMAS = {(NEW, "GetAuthStatusResponse"): "0.169.0 serves it still, and prints no schema of it"}


def schema_of(message: Message, methods: dict[Any, str]) -> str:
    """The name of the schema that a message of the server must fit."""
    if "method" in message:
        return "ServerRequest" if "id" in message else "ServerNotification"
    return "JSONRPCError" if "error" in message else RESULTS[methods[message["id"]]]


@scenes
def test_what_authstate_sends_fits_the_schemas(
    scene: Scene, schemas: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    _, client = play(scene, AUTHSTATE, make_home(**scene.home), issuer)
    assert client.received
    for version, folder in schemas.items():
        files = {path.stem: path for path in folder.rglob("*.json")}
        for message in client.received:
            name = schema_of(message, client.methods)
            if (version, name) in NOT_IN_SCHEMAS:
                assert name not in files
                continue
            schema = json.loads(files[name].read_text())
            content = message.get("result", message)
            jsonschema.Draft7Validator(schema).validate(content)


# The main job, end to end


def test_a_client_drives_authstate_with_a_login_that_codex_wrote(
    binaries: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    sign_in_by_codex(binaries[NEW], home, issuer, email="person@example.com", plan="pro")
    written = json.loads((home / "auth.json").read_text())
    (home / "auth.json").write_text(json.dumps({**written, "of_another_release": {"kept": True}}))
    person = {"type": "chatgpt", "email": "person@example.com", "planType": "pro"}
    with WireClient(
        AUTHSTATE, clean_environment(home, **issuer.environment), listen=("--listen", "stdio://")
    ) as client:
        assert client.initialize()["result"]["userAgent"].startswith("interop/")
        assert client.result("account/read", {}) == {"account": person, "requiresOpenaiAuth": True}
        assert issuer.stats()["refreshes_accepted"] == 0

        assert client.result("account/read", {"refreshToken": True})["account"] == person
        assert issuer.stats()["refreshes_accepted"] == 1
        refreshed = json.loads((home / "auth.json").read_text())
        assert refreshed["tokens"]["refresh_token"] != written["tokens"]["refresh_token"]
        assert refreshed["of_another_release"] == {"kept": True}

        issuer.expire_access()
        limits = client.result("account/rateLimits/read")
        assert (limits["rateLimits"]["planType"], limits["rateLimits"]["primary"]["usedPercent"]) == ("pro", 42)
        stats = issuer.stats()
        assert (stats["refreshes_accepted"], stats["refreshes_refused"], stats["backend_refused"]) == (2, 0, 1)

        assert client.result("account/logout") == {}
        assert client.result("account/read", {}) == {"account": None, "requiresOpenaiAuth": True}
        client.drain(0.5)
    assert [message["method"] for message in client.received if "method" in message] == ["account/updated"]
    assert client.process.returncode == 0
    assert not (home / "auth.json").exists()
    assert issuer.stats()["revocations"] == 1
    assert run([str(binaries[NEW]), "login", "status"], home, issuer).returncode == 1
