"""Which file decides a setting: what `status` shows, whom a refusal names, which file a wrong value is blamed on."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from authstate.adapters.cli import context
from authstate.adapters.cli.main import main
from authstate.adapters.config import Config, ConfigError, load_config
from authstate.adapters.config.settings import read_config
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import LoginMethodForbidden, WorkspaceForbidden
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

PROVIDER = "[model_providers.mine]\nrequires_openai_auth = {}\n"


class Files:
    """A home and an administrator's folder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.etc = folder / "home", folder / "etc"
        self.home.mkdir()
        self.etc.mkdir()

    def write(self, **files: str) -> "Files":
        """Write `home` into the home's config.toml, the others into files of their name."""
        for name, text in files.items():
            (self.home / "config.toml" if name == "home" else self.etc / f"{name}.toml").write_text(text)
        return self

    def load(self, *overrides: str) -> Config:
        return load_config(self.home, overrides, str(self.etc))

    def decisions(self, *overrides: str) -> dict[str, tuple[Any, str]]:
        """Each setting's value, and the name of the file that decides it (or `-c`)."""
        found = read_config(self.home, overrides, str(self.etc))[1]
        places = {str(self.home / "config.toml"): "home"}
        return {one.key: (one.value, places.get(str(one.decided_by), Path(str(one.decided_by)).stem)) for one in found}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_default_is_nobodys_decision(files: Files) -> None:
    assert files.decisions() == {}
    assert files.write(home="sandbox_mode = 3").decisions("model_reasoning=x") == {}


def test_every_setting_has_the_last_one_who_said_it(files: Files) -> None:
    files.write(
        config='forced_login_method = "api"\nforced_chatgpt_workspace_id = "org-1"\nchatgpt_base_url = "https://u:pw@h/b?k"',
        home='cli_auth_credentials_store = "keyring"\nmodel_provider = "mine"\n' + PROVIDER.format("true"),
        managed_config='forced_login_method = "chatgpt"',
    )
    assert files.decisions("cli_auth_credentials_store=file") == {
        "forced_login_method": ("chatgpt", "managed_config"),
        "forced_chatgpt_workspace_id": (["org-1"], "config"),
        "cli_auth_credentials_store": ("file", "-c"),
        "chatgpt_base_url": ("https://h/b", "config"),
        "model_provider": ("mine", "home"),
        "model_providers.mine.requires_openai_auth": (True, "home"),
    }


@pytest.mark.parametrize(
    ("required", "key", "decision"),
    [
        ('allowed_login_methods = ["chatgpt"]', "forced_login_method", ("chatgpt", "requirements")),
        ('allowed_login_methods = ["api", "chatgpt"]', "forced_login_method", None),
        ('allowed_chatgpt_workspaces = ["a"]', "forced_chatgpt_workspace_id", (["a"], "requirements")),
        ("allowed_chatgpt_workspaces = []", "forced_login_method", ("api", "requirements")),
        ('cli_auth_credentials_store = "file"', "cli_auth_credentials_store", ("file", "requirements")),
        ('chatgpt_base_url = "https://r"', "chatgpt_base_url", ("https://r", "requirements")),
        ('model_provider = "ollama"', "model_provider", ("ollama", "requirements")),
        ('forced_login_method = "api"', "forced_login_method", None),
    ],
)
def test_requirements_decide_what_they_change(files: Files, required: str, key: str, decision: Any) -> None:
    files.write(requirements=required, managed_config='model_provider = "openai"')
    assert files.decisions().get(key) == decision


def test_requirements_that_change_nothing_decide_nothing(files: Files) -> None:
    files.write(
        home='forced_login_method = "api"\nforced_chatgpt_workspace_id = "a"',
        requirements='allowed_login_methods = ["api"]\nallowed_chatgpt_workspaces = ["a", "b"]',
    )
    assert {who for _, who in files.decisions().values()} == {"home"}


def test_a_workspace_that_both_files_allow_is_decided_by_the_stricter(files: Files) -> None:
    files.write(home='forced_chatgpt_workspace_id = ["a", "b"]', requirements='allowed_chatgpt_workspaces = ["b", "c"]')
    assert files.decisions() == {"forced_chatgpt_workspace_id": (["b"], "requirements")}


@pytest.mark.parametrize(
    ("home", "overrides", "needed", "key"),
    [
        ('profile = "x"\nprofiles.x.model_provider = "ollama"', [], False, "profiles.x.model_provider"),
        ('model_provider = "ollama"\nprofile = "x"\nprofiles.x.model_provider = "openai"', [], True, "profiles.x."),
        ('profiles.x.model_provider = "ollama"', ["profile=x", "model_provider=openai"], False, "profiles.x."),
        ('profiles.x.model_provider = "ollama"\nprofile = "x"', ["profile=y"], True, None),
        ('profiles.x.model_provider = "ollama"\nprofile = "x"', ["profiles.x.model_provider=openai"], True, "profil"),
        ('profile = "x"\nmodel_provider = "ollama"\nprofiles.x.model = "m"', [], False, "model_provider"),
        ('profile = "missing"\nmodel_provider = "ollama"', [], False, "model_provider"),
        ('profile = ""\nmodel_provider = "ollama"', [], False, "model_provider"),
        ('profile = "x"\nprofiles.x.model_provider = "mine"\n' + PROVIDER.format("true"), [], True, "profiles.x."),
        ('profile = "x"\nprofiles.x.model_provider = "mine"\n' + PROVIDER.format("false"), [], False, "profiles.x."),
    ],
)
def test_a_profile_selects_the_provider(
    files: Files, home: str, overrides: list[str], needed: bool, key: str | None
) -> None:
    files.write(home=home)
    assert files.load(*overrides).requires_openai_auth is needed
    selected = [name for name in files.decisions(*overrides) if name.endswith("model_provider")]
    assert [name for name in selected if key and name.startswith(key)] == selected


def test_a_profile_has_a_backend_of_its_own_and_no_other_setting(files: Files) -> None:
    files.write(
        home='profile = "x"\nchatgpt_base_url = "https://top"\n[profiles.x]\nchatgpt_base_url = "https://x"\n'
        'forced_login_method = "api"\ncli_auth_credentials_store = "keyring"'
    )
    assert files.load() == Config(chatgpt_base_url="https://x")


def test_requirements_win_over_a_profile(files: Files) -> None:
    files.write(home='profile = "x"\nprofiles.x.model_provider = "ollama"', requirements='model_provider = "openai"')
    assert files.load().requires_openai_auth is True


@pytest.mark.parametrize(
    ("written", "overrides", "place", "must"),
    [
        ({"home": "profile = 3"}, [], "home", "profile must be a string"),
        ({"home": 'profile = "x"\nprofiles = 3'}, [], "home", "profiles must be a table"),
        ({"home": 'profile = "x"\nprofiles.x = 3'}, [], "home", "profiles.x must be a table"),
        ({"home": 'profile = "x"\nprofiles.x.model_provider = 3'}, [], "home", "profiles.x.model_provider must be a s"),
        ({"config": "model_providers = 3", "home": 'model_provider = "m"'}, [], "etc", "model_providers must be a tab"),
        (
            {"config": "model_providers.m.requires_openai_auth = 3", "home": "model_providers.other.name = 'x'"},
            ["model_provider=m"],
            "etc",
            "model_providers.m.requires_openai_auth must be true or false",
        ),
        ({"home": 'model_provider = "m"'}, ["model_providers=3"], "-c", "model_providers must be a table"),
        (
            {"config": "model_providers.m = 3", "home": 'model_provider = "m"\nmodel_providers.o.name = "x"'},
            [],
            "etc",
            "model_providers.m must be a table",
        ),
        ({"requirements": "model_provider = 3"}, [], "etc", "model_provider must be a string"),
        ({"requirements": 'model_provider = "m"\nmodel_providers = 3'}, [], "etc", "model_providers must be a table"),
        ({"requirements": "allowed_login_methods = [[]]"}, [], "etc", "allowed_login_methods must be a list"),
        ({"requirements": "allowed_chatgpt_workspaces = [3]"}, [], "etc", "allowed_chatgpt_workspaces must be a work"),
        ({"home": "forced_chatgpt_workspace_id = {}"}, [], "home", "forced_chatgpt_workspace_id must be a workspace"),
    ],
)
def test_a_wrong_type_is_blamed_on_the_file_that_has_it(
    files: Files, written: dict[str, str], overrides: list[str], place: str, must: str
) -> None:
    files.write(**written)
    with pytest.raises(ConfigError) as caught:
        files.load(*overrides)
    places = {"home": str(files.home / "config.toml"), "etc": str(files.etc), "-c": "the override (-c)"}
    assert str(caught.value).startswith(places[place])
    assert must in str(caught.value)


@pytest.mark.parametrize(
    "home",
    [
        "profiles = 3\nmodel_providers = 3",
        "[profiles.x]\nmodel_provider = 3\nchatgpt_base_url = 7",
        'model_provider = "openai"\nmodel_providers = 3',
        'model_provider = "openai"\n[model_providers]\nopenai = 3\nmine.requires_openai_auth = "no"',
        'profile = "x"\n[profiles.x]\nmodel = 3\nforced_login_method = 3',
        "model_providers.mine = {}\nmcp_servers = 7\nhistory = []",
    ],
)
def test_a_wrong_type_that_nothing_selects_stops_nothing(files: Files, home: str) -> None:
    assert files.write(home=home).load() == Config()


def test_a_value_that_is_replaced_has_one_origin(files: Files) -> None:
    files.write(config=PROVIDER.format("true"), home='model_provider = "mine"\nmodel_providers = 3')
    with pytest.raises(ConfigError, match=r"home.config\.toml: model_providers must be a table"):
        files.load()
    files.write(managed_config=PROVIDER.format("false"))
    assert files.decisions()["model_providers.mine.requires_openai_auth"] == (False, "managed_config")
    files.write(home='model_provider = "mine"\nmodel_providers.mine = {}', managed_config="")
    assert files.decisions()["model_providers.mine.requires_openai_auth"] == (True, "config")


async def test_a_refusal_names_the_administrators_file(files: Files) -> None:
    files.write(managed_config='forced_login_method = "chatgpt"', requirements='allowed_chatgpt_workspaces = ["org-7"]')
    policy = files.load().policy
    async with AuthEngine(MemoryStore(), FakeAuthority(), policy=policy) as engine:
        with pytest.raises(LoginMethodForbidden) as method:
            await engine.use_api_key(ApiKey.parse("sk-1"))
        with pytest.raises(WorkspaceForbidden) as workspace:
            await engine.complete_chatgpt_login(make_tokens(account_id="org-1"))
    assert f"(forced_login_method in {files.etc / 'managed_config.toml'})" in str(method.value)
    assert f"(allowed_chatgpt_workspaces in {files.etc / 'requirements.toml'})" in str(workspace.value)
    for refusal in (method, workspace):
        assert str(refusal.value).endswith("or ask your administrator")


def test_a_refusal_by_the_persons_own_file_names_the_key(files: Files) -> None:
    files.write(home='forced_login_method = "chatgpt"', requirements='allowed_login_methods = ["chatgpt", "api"]')
    refusal = files.load().policy.method_violation(LoginMethod.API)
    assert str(refusal).endswith('(forced_login_method = "chatgpt"): sign in with a ChatGPT account')


def test_policies_that_allow_the_same_are_equal() -> None:
    ours, theirs = Policy(LoginMethod.API), Policy(LoginMethod.API, method_rule="KEY in FILE")
    assert ours == theirs and hash(ours) == hash(theirs)
    assert ours != Policy() and ours != "api"


def test_status_shows_who_decides(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(files.home))
    monkeypatch.setattr(context, "read_config", partial(read_config, system=str(files.etc)))
    managed = files.etc / "managed_config.toml"
    files.write(managed_config='forced_login_method = "chatgpt"', home='chatgpt_base_url = "https://u:canary@h/b"')
    assert main(["status", "-c", "cli_auth_credentials_store=file"]) == 1
    shown = capsys.readouterr().out
    assert f'  setting       forced_login_method = "chatgpt" ({managed})\n' in shown
    assert '  setting       cli_auth_credentials_store = "file" (-c)\n' in shown
    assert "canary" not in shown
    assert main(["status", "--json"]) == 1
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings[0] == {"key": "forced_login_method", "value": "chatgpt", "decidedBy": str(managed)}
    assert settings[1]["value"] == "https://h/b"


@pytest.mark.parametrize("key", ["model_provider", "forced_chatgpt_workspace_id"])
def test_status_shows_no_key_that_was_pasted_into_a_setting(
    key: str, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(files.home))
    for arguments in (["status"], ["status", "--json"]):
        assert main([*arguments, "-c", f"{key}=sk-proj-canary"]) == 1
        shown = capsys.readouterr()
        assert "[redacted]" in shown.out and "canary" not in shown.out + shown.err
