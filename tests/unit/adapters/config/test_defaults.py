"""A configuration at its defaults is recognized without reading it, and only if reading it cannot fail."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authstate.adapters.config import ConfigError, Environment, load_config
from authstate.adapters.config import defaults as defaults_module
from authstate.adapters.config.defaults import home_with_defaults
from authstate.adapters.config.layers import Settings
from authstate.adapters.config.unmanaged_logins import ensure_none_in_environment

LINES = st.sampled_from(
    [
        'model = "best"',
        "forced_login_method = 3",
        'forced_chatgpt_workspace_id = "w"',
        'cli_auth_credentials_store = "drawer"',
        'chatgpt_base_url = "http://backend.example"',
        'model_provider = ["none"]',
        "model_providers = 1",
        "profile = 1",
        "profiles = true",
        "openai_base_url = 1",
        "authstate = 1",
        "authstate.account = 1",
        "[tools]",
        "[",
    ]
)
VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            "AUTHSTATE_ACCOUNT",
            "AUTHSTATE_BROKER_URL",
            "AUTHSTATE_REDIRECT_PORTS",
            "AUTHSTATE_TEST_PARENT_TIMEOUT",
            "CODEX_ACCESS_TOKEN",
            "CODEX_API_KEY",
            "CODEX_APP_SERVER_LOGIN_ISSUER",
            "CODEX_AUTHAPI_BASE_URL",
            "CODEX_INTERNAL_ORIGINATOR_OVERRIDE",
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
            "CODEX_SOMETHING_NEW",
            "HTTPS_PROXY",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_IDENTITY_TOKEN_FILE",
            "SSL_CERT_FILE",
        ]
    ),
    st.sampled_from(["", "x", "http://host.example", "é \ud800"]),
    max_size=2,
)


def read_everything(environ: Mapping[str, str]) -> Environment:
    """What app-server does with its configuration."""
    ensure_none_in_environment(environ)
    environment = Environment.read(environ, acts_with_key=False)
    load_config(environment.home, (), None, environ)
    return environment


@given(st.lists(LINES, max_size=2), VARIABLES)
@example([], {"CODEX_INTERNAL_ORIGINATOR_OVERRIDE": "ide", "OPENAI_API_KEY": "x"})
@example(['model = "best"', "[tools]"], {})
def test_what_is_at_its_defaults_can_be_read(lines: list[str], variables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.toml").write_text("\n".join(lines))
        environ = {"HOME": "/", "CODEX_HOME": folder, **variables}
        home = home_with_defaults(environ, (), None)
        assert home is None or str(read_everything(environ).home) == home


def test_an_ordinary_home_is_at_its_defaults(tmp_path: Path) -> None:
    environ = {"CODEX_HOME": str(tmp_path), "CODEX_INTERNAL_ORIGINATOR_OVERRIDE": "ide", "CODEX_API_KEY": "sk"}
    assert home_with_defaults(environ, (), str(tmp_path / "etc")) == str(tmp_path)
    (tmp_path / "config.toml").write_text('model = "best"\n[tools]\nview = true\n')
    assert home_with_defaults(environ, (), str(tmp_path / "etc")) == str(tmp_path)


def test_a_home_that_is_missing_or_set_up_is_not(tmp_path: Path) -> None:
    environ = {"CODEX_HOME": str(tmp_path)}
    assert home_with_defaults({"CODEX_HOME": str(tmp_path / "none")}, (), None) is None
    assert home_with_defaults(environ, ["model=x"], None) is None
    assert home_with_defaults({**environ, "CODEX_SOMETHING_NEW": "1"}, (), None) is None
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "requirements.toml").symlink_to("nowhere")
    assert home_with_defaults(environ, (), str(etc)) is None
    (tmp_path / ".env").write_text("")
    assert home_with_defaults(environ, (), None) is None


def test_a_folder_of_the_administrator_that_cannot_be_searched_is_not(tmp_path: Path) -> None:
    """Reading the configuration fails there. A folder of mode 0700 that belongs to root is the usual case."""
    home, etc = tmp_path / "home", tmp_path / "etc"
    home.mkdir()
    etc.symlink_to(etc)
    with pytest.raises(ConfigError, match="too many levels of symbolic links"):
        load_config(home, (), str(etc), {})
    assert home_with_defaults({"CODEX_HOME": str(home)}, (), str(etc)) is None


def test_the_home_of_an_account_is_not(tmp_path: Path) -> None:
    """Its own .env may name a login that is not managed here."""
    account = tmp_path / "authstate" / "homes" / "a1"
    account.mkdir(parents=True)
    (tmp_path / "authstate" / "accounts.json").write_text("{}")
    (account / ".env").write_text("OPENAI_IDENTITY_TOKEN_FILE=/token\n")
    environ = {"CODEX_HOME": str(account)}
    with pytest.raises(ConfigError, match="a workload identity"):
        ensure_none_in_environment(environ)
    assert home_with_defaults(environ, (), None) is None


def test_every_key_that_is_read_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads another key of config.toml adds it to the list, or proves here that it cannot be wrong."""
    asked: set[str] = set()
    get = Settings.get

    def get_and_note(settings: Settings, *keys: str) -> object:
        asked.add(keys[0])
        return get(settings, *keys)

    monkeypatch.setattr(Settings, "get", get_and_note)
    for text in ('model_provider = "mine"', 'model_provider = "openai"', 'profile = "work"'):
        (tmp_path / "config.toml").write_text(text + "\n")
        load_config(tmp_path, (), None, {})
    assert asked == set(defaults_module._KEYS)


class _Noting(dict[str, str]):
    """Environment variables that note which of them were asked for."""

    def __init__(self, *args: Mapping[str, str]) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def test_every_variable_that_is_read_counts(tmp_path: Path) -> None:
    """Whoever reads a variable of another name adds its prefix, or proves here that it cannot be wrong."""
    environ = _Noting({"CODEX_HOME": str(tmp_path)})
    read_everything(environ)
    assert {name for name in environ.asked if not name.startswith(defaults_module._PREFIXES)} == set()
    assert "CODEX_APP_SERVER_LOGIN_ISSUER" in environ.asked
