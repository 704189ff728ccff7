"""The administrator's files in /etc/codex: real codex and authstate make the same of them, in the same order."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW, OLD
from support.real_parts import RealParts
from support.system_folder import SystemFolder, reason_unavailable
from support.wire_client import WireClient, clean_environment

from authstate.adapters.config import load_config
from authstate.engine.model.policy import LoginMethod
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]

# Each layer by its name, from the weakest to the strongest: the files, and the command line.
SYSTEM, HOME, OVERRIDE, MANAGED, REQUIRED = "config", "home", "-c", "managed_config", "requirements"


def says(provider: str, method: str, workspace: str) -> dict[str, str]:
    """What a layer says."""
    return {"model_provider": provider, "forced_login_method": method, "forced_chatgpt_workspace_id": workspace}


ONE, OTHER = says("openai", "api", "org-1"), says("ollama", "chatgpt", "org-2")
ORDERS: list[dict[str, dict[str, Any]]] = [
    {},
    {SYSTEM: OTHER},
    {SYSTEM: ONE, HOME: OTHER},
    {HOME: ONE, OVERRIDE: OTHER},
    {OVERRIDE: ONE, MANAGED: OTHER},
]
"""Each layer against the next one: who says what."""
REQUIREMENTS: list[dict[str, dict[str, Any]]] = [
    {REQUIRED: {"allowed_login_methods": ["api"], "forced_chatgpt_workspace_id": "org-2"}},
    {REQUIRED: {"allowed_login_methods": ["chatgpt"], "forced_login_method": "api"}},
    {REQUIRED: {"allowed_chatgpt_workspaces": ["org-2"], "model_provider": "ollama"}, MANAGED: ONE},
    {REQUIRED: {"allowed_chatgpt_workspaces": ["org-1", "org-2"]}, MANAGED: {"forced_chatgpt_workspace_id": "org-1"}},
]
"""requirements.toml. 0.93.0 does not read these keys."""


@pytest.fixture(scope="module", autouse=True)
def possible(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := reason_unavailable(tmp_path_factory.mktemp("try")):
        pytest.skip(reason)


def toml(settings: dict[str, Any]) -> str:
    return "".join(f"{key} = {value!r}\n" for key, value in settings.items())


class Place:
    """A home and an administrator's folder whose layers say these things."""

    def __init__(self, tmp_path: Path, make_home: MakeHome, layers: dict[str, dict[str, Any]]) -> None:
        self.home = make_home(config=toml(layers.get(HOME, {})))
        files = {f"{name}.toml": toml(said) for name, said in layers.items() if name not in (HOME, OVERRIDE)}
        self.system = SystemFolder(tmp_path / "system", files)
        self.overrides = [f"{key}={value!r}" for key, value in layers.get(OVERRIDE, {}).items()]


def of_codex(codex: str, place: Place, issuer: LoopbackIssuer) -> dict[str, bool]:
    """What codex makes of them."""
    words = [word for override in place.overrides for word in ("-c", override)]
    tokens = issuer.seed(account_id="org-1", email="person@example.com")
    external = {"type": "chatgptAuthTokens", "accessToken": tokens["access_token"], "idToken": tokens["id_token"]}
    external |= {"chatgptAccountId": "org-1", "chatgptPlanType": "plus"}
    command = [*place.system.prefix, codex, *words, "-c", 'cli_auth_credentials_store="ephemeral"']
    with WireClient(command, clean_environment(place.home, **issuer.environment)) as client:
        client.initialize()
        needed = client.result("account/read", {})["requiresOpenaiAuth"]
        key = client.call("account/login/start", {"type": "apiKey", "apiKey": "sk-system-1"})
        client.call("account/logout")
        login = client.call("account/login/start", external)
    return {"a login is needed": needed, "a key may": "result" in key, "org-1 may": "result" in login}


def of_authstate(place: Place) -> dict[str, bool]:
    """What we make of them."""
    config = load_config(place.home, place.overrides, str(place.system.codex))
    policy = config.policy
    return {
        "a login is needed": config.requires_openai_auth,
        "a key may": policy.method_violation(LoginMethod.API) is None,
        "org-1 may": policy.method_violation(LoginMethod.CHATGPT) is None
        and (not policy.forced_workspaces or "org-1" in policy.forced_workspaces),
    }


def name_of(layers: dict[str, dict[str, Any]]) -> str:
    return "<".join(layers) + str([*layers.get(REQUIRED, {})]) if layers else "nothing"


@pytest.mark.parametrize(("version", "cases"), [(OLD, ORDERS), (NEW, [*ORDERS, *REQUIREMENTS])], ids=[OLD, NEW])
def test_codex_and_authstate_make_the_same_of_the_files(
    real_parts: RealParts,
    version: str,
    cases: list[dict[str, Any]],
    tmp_path: Path,
    make_home: MakeHome,
    issuer: LoopbackIssuer,
) -> None:
    codex = str(real_parts.codex(version))
    places = {name_of(layers): Place(tmp_path / str(n), make_home, layers) for n, layers in enumerate(cases)}
    assert len(places) == len(cases)
    ours = {name: of_authstate(place) for name, place in places.items()}
    with ThreadPoolExecutor(2) as pool:
        theirs = dict(zip(places, pool.map(lambda place: of_codex(codex, place, issuer), places.values()), strict=True))
    assert ours == theirs


@pytest.mark.parametrize("override", [{}, {"profile": "x", "model_provider": "openai"}])
def test_a_profile_selects_the_provider_in_releases_that_have_profiles(
    real_parts: RealParts, override: dict[str, str], tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """Even over a `-c` of the provider. Later releases refuse to start."""
    place = Place(tmp_path, make_home, {HOME: {} if override else {"profile": "x"}, OVERRIDE: override})
    with (place.home / "config.toml").open("a") as file:
        file.write('[profiles.x]\nmodel_provider = "mine"\n[model_providers.mine]\nname = "mine"\n')
        file.write('base_url = "http://127.0.0.1:9"\n')
    ours = of_authstate(place)
    assert ours == of_codex(str(real_parts.codex(OLD)), place, issuer)
    assert not ours["a login is needed"]


def test_requirements_do_not_bind_a_release_that_does_not_read_them(
    real_parts: RealParts, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    place = Place(tmp_path, make_home, {REQUIRED: {"allowed_login_methods": ["api"], "model_provider": "ollama"}})
    assert of_codex(str(real_parts.codex(OLD)), place, issuer) == {
        "a login is needed": True,
        "a key may": True,
        "org-1 may": True,
    }
