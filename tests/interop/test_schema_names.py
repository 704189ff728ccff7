"""The names of the account API, read off the schemas that 0.93.0, 0.169.0 and the newest release print themselves.

A new name is no fault of codex: somebody is to look at it, and to add it here with what authstate does with it. A new
optional member fails nothing.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW, OLD, newest
from support.paths import REPO
from support.real_parts import RealParts

from authstate.adapters.child.token_dialects import Dialect, dialect_of
from authstate.adapters.stores.unmanaged_records import MODES
from authstate.engine.model.account import PlanType
from authstate.engine.model.events import AuthMode

METHODS = {
    *("account/read", "account/login/start", "account/login/cancel", "account/logout", "account/rateLimits/read"),
    *("account/rateLimitResetCredit/consume", "account/usage/read", "account/workspaceMessages/read"),
    *("account/sendAddCreditsNudgeEmail", "account/securitySetup/read", "account/gatewayOAuth/read"),
    *("account/gatewayOAuth/login", "account/gatewayOAuth/cancel", "account/bedrock/discover"),
    *("account/bedrock/setup", "account/bedrock/checkGovCloudRequirements", "account/gcp/setup"),
    *("accountSession/list", "accountSession/switch", "getAuthStatus"),
    *("loginApiKey", "loginChatGpt", "cancelLoginChatGpt", "logoutChatGpt"),
}
NEW_KIND = (
    "a kind of login is new. Find out what codex stores, what it prefers, and what its app-server answers; then add it "
    "to adapters/stores/unmanaged_records.py (or manage it), to the table in docs/signing-in.md, and here"
)
ACCOUNTS = {"apiKey", "chatgpt", "amazonBedrock", "gcp"}
LOGIN_OPTIONS = {"--with-api-key", "--with-access-token"}
LOGINS = {"apiKey", "chatgpt", "chatgptDeviceCode", "chatgptAuthTokens", "amazonBedrock", "amazonBedrockAccessKeys"}
QUESTIONS = {"account/chatgptAuthTokens/refresh"}
MEMBERS = {
    Dialect.ID_TOKEN: {"idToken", "accessToken"},
    Dialect.ACCOUNT: {"accessToken", "chatgptAccountId"},
}


@pytest.fixture(scope="module", params=[OLD, NEW, "newest"])
def release(
    request: pytest.FixtureRequest, real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A version, and the folder of its schemas, with the experimental ones where there are such."""
    version = newest() if request.param == "newest" else request.param
    binary = real_parts.codex(version)
    folder = tmp_path_factory.mktemp(f"names-{version}")
    command = [str(binary), "app-server", "generate-json-schema", "--out", str(folder)]
    more = [] if version == OLD else ["--experimental"]
    subprocess.run([*command, *more], check=True, capture_output=True, timeout=60)
    return version, folder


def schema(folder: Path, name: str) -> Any:
    return json.loads(next(folder.rglob(f"{name}.json")).read_text())


def values(definition: Any) -> set[str]:
    parts = [definition, *definition.get("oneOf", ())]
    return {value for part in parts for value in part.get("enum", ())}


def tags(definition: Any) -> set[str]:
    """The `type` of each variant."""
    return {one["properties"]["type"]["enum"][0] for one in definition["oneOf"]}


def methods(folder: Path, name: str) -> set[str]:
    return {one["properties"]["method"]["enum"][0] for one in schema(folder, name)["oneOf"]}


def is_about_accounts(method: str) -> bool:
    words = ("account", "auth", "login", "logout")
    return any(word in method.lower() for word in words) and not method.startswith("mcpServer/")


def test_every_plan_is_known(release: tuple[str, Path]) -> None:
    plans = values(schema(release[1], "GetAccountResponse")["definitions"]["PlanType"])
    assert plans, "the schema has another form now"
    new = plans - {str(plan) for plan in PlanType}
    assert not new, f"codex {release[0]} has new plans: {sorted(new)}: add them to PlanType"


def test_every_way_to_be_signed_in_is_known(release: tuple[str, Path]) -> None:
    modes = values(schema(release[1], "AccountUpdatedNotification")["definitions"]["AuthMode"])
    assert modes
    new = modes - {str(mode) for mode in AuthMode} - set(MODES)
    assert not new, f"codex {release[0]} has the modes {sorted(new)}: {NEW_KIND}"
    documented = set(re.findall(r"`(\w+)`", kinds_table()))
    assert modes <= documented, f"no row of docs/signing-in.md#kinds-of-login has {sorted(modes - documented)}"


def test_every_type_of_account_and_way_to_sign_in_is_known(release: tuple[str, Path], real_parts: RealParts) -> None:
    version, folder = release
    accounts = tags(schema(folder, "GetAccountResponse")["definitions"]["Account"])
    assert accounts and accounts <= ACCOUNTS, f"codex {version} has {sorted(accounts - ACCOUNTS)}: {NEW_KIND}"
    logins = tags(schema(folder, "LoginAccountParams"))
    assert logins and logins <= LOGINS, f"codex {version} has {sorted(logins - LOGINS)}: {NEW_KIND}"
    words = [str(real_parts.codex(version)), "login", "--help"]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
    options = set(re.findall(r"--with-[\w-]+", shown))
    assert options and options <= LOGIN_OPTIONS, f"codex {version} has {sorted(options - LOGIN_OPTIONS)}: {NEW_KIND}"


def kinds_table() -> str:
    """The section of docs/signing-in.md about kinds of login."""
    return (REPO / "docs/signing-in.md").read_text().partition("## Kinds of login\n")[2].partition("\n## ")[0]


def test_every_method_about_accounts_is_known(release: tuple[str, Path]) -> None:
    version, folder = release
    asked = {method for method in methods(folder, "ClientRequest") if is_about_accounts(method)}
    assert asked and asked <= METHODS, f"codex {version} has new methods: {sorted(asked - METHODS)}: pass them?"
    questions = {method for method in methods(folder, "ServerRequest") if is_about_accounts(method)}
    assert questions == QUESTIONS, f"codex {version} asks its client other questions: {sorted(questions)}"


def test_the_dialect_is_the_one_that_the_release_needs(release: tuple[str, Path]) -> None:
    version, folder = release
    dialect = dialect_of(f'{{"userAgent": "test/{version} (Linux)"}}'.encode())
    answer = schema(folder, "ChatgptAuthTokensRefreshResponse")
    assert set(answer["required"]) == MEMBERS[dialect], f"codex {version} takes tokens in another form"
