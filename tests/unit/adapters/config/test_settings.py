"""config.toml, overrides, environment variables, and the engine that is put together from them."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

if os.name == "posix":
    import pwd

from authstate.adapters.assembly import open_engine, open_store
from authstate.adapters.config import Config, ConfigError, Environment, StoreMode, load_config
from authstate.adapters.network.http_proxies import Network
from authstate.adapters.stores.keyring import account_of_home
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import MemoryStore


def write(home: Path, text: str | bytes) -> Path:
    file = home / "config.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load_config(tmp_path) == Config()
    assert load_config(tmp_path / "missing") == Config()
    assert Config().chatgpt_base_url == "https://chatgpt.com/backend-api"


def test_every_key_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        forced_login_method = "chatgpt"
        forced_chatgpt_workspace_id = ["org-1", " org-2 ", "org-1", ""]
        cli_auth_credentials_store = "ephemeral"
        chatgpt_base_url = "http://127.0.0.1:9/backend-api/"
        model_provider = "mine"
        unknown = { anything = 1 }
        [model_providers.mine]
        requires_openai_auth = false
        """,
    )
    assert load_config(tmp_path) == Config(
        policy=Policy(LoginMethod.CHATGPT, ("org-1", "org-2")),
        store_mode=StoreMode.EPHEMERAL,
        chatgpt_base_url="http://127.0.0.1:9/backend-api",
        requires_openai_auth=False,
    )


def test_one_workspace_may_be_a_string_and_a_blank_one_is_none(tmp_path: Path) -> None:
    assert load_config(tmp_path, ["forced_chatgpt_workspace_id=org-1"]).policy.forced_workspaces == ("org-1",)
    assert load_config(tmp_path, ['forced_chatgpt_workspace_id=" "']).policy.forced_workspaces == ()


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("", True),
        ('model_provider = "openai"', True),
        ('model_provider = "openai"\n[model_providers.openai]\nname = "x"', True),
        ('model_provider = "ollama"', False),
        ('model_provider = "amazon-bedrock"', False),
        ('model_provider = "nowhere"', True),
        ('model_provider = "mine"\n[model_providers.mine]\nname = "x"', False),
        ('model_provider = "mine"\n[model_providers.mine]\nrequires_openai_auth = true', True),
        ("[model_providers.mine]\nrequires_openai_auth = false", True),
    ],
)
def test_whether_a_login_is_needed(tmp_path: Path, text: str, required: bool) -> None:
    write(tmp_path, text)
    assert load_config(tmp_path).requires_openai_auth is required


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("forced_login_method = 3", "forced_login_method"),
        ('forced_login_method = "apikey"', 'forced_login_method must be one of "chatgpt", "api"'),
        ("forced_login_method = []", "forced_login_method"),
        ("forced_chatgpt_workspace_id = 7", "forced_chatgpt_workspace_id"),
        ('forced_chatgpt_workspace_id = ["a", 7]', "forced_chatgpt_workspace_id"),
        ('cli_auth_credentials_store = "disk"', "cli_auth_credentials_store"),
        ("chatgpt_base_url = 1", "chatgpt_base_url"),
        ('chatgpt_base_url = "chatgpt.com"', "chatgpt_base_url"),
        ('chatgpt_base_url = "https://"', "chatgpt_base_url"),
        ("model_provider = true", "model_provider"),
        ('model_provider = "mine"\nmodel_providers = 1', "model_providers must be a table"),
        ('model_provider = "mine"\nmodel_providers.mine = 1', "model_providers.mine must be a table"),
        ('model_provider = "mine"\nmodel_providers.mine.requires_openai_auth = "no"', "mine.requires_openai_auth"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(file) in str(caught.value)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"a = 1\nb =", "line 2, column 4"),
        (b"a = 1\na = 2\n", "line 2"),
        (b'a = 1\n\nb = """never', "line 3"),
        (b"a = 1\nb = '\xff'\n", "line 2"),
        (b"a = " + b"[" * 5000, "config.toml"),
        (b"#" * (4 * 1024 * 1024 + 1), "larger"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_its_line(tmp_path: Path, text: bytes, place: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(file) in str(caught.value)
    assert place in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*config.toml: is a directory"):
        load_config(tmp_path)
    home = tmp_path / "file"
    home.write_text("")
    with pytest.raises(ConfigError, match="set CODEX_HOME to a folder"):
        load_config(home)


def test_a_file_that_this_user_may_not_read_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, limit: int) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("authstate.adapters.config.config_files.read_regular_file", denied)
    with pytest.raises(ConfigError, match=r"config.toml: permission denied: give this user read access"):
        load_config(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(tmp_path)


def test_toml_1_1_stops_nothing(tmp_path: Path) -> None:
    """codex reads these: an inline table over several lines with a comma at its end, and the escapes \\e and \\xHH."""
    write(
        tmp_path, b'table = {\n  a = 1, # why\n  b = { c = 2, },\n}\nforced_login_method = "\\x61pi"\nbell = "\\e[0m"\n'
    )
    assert load_config(tmp_path).policy.forced_login_method is LoginMethod.API
    assert load_config(tmp_path, ["x={a=1,}", 'cli_auth_credentials_store="\\x66ile"']).store_mode is StoreMode.FILE


def test_a_wrong_type_in_a_table_that_is_not_ours_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path, "sandbox_mode = 3\nmodel_providers = 3\nprofiles = [1]\nmcp_servers = true\n")
    assert load_config(tmp_path) == Config()


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path, b'\xef\xbb\xbfforced_login_method = "api"')
    assert load_config(tmp_path).policy.forced_login_method is LoginMethod.API


def test_overrides_win_and_may_be_toml_or_plain(tmp_path: Path) -> None:
    write(tmp_path, 'cli_auth_credentials_store = "keyring"\nmodel_provider = "openai"')
    config = load_config(
        tmp_path,
        [
            'cli_auth_credentials_store="ephemeral"',
            "forced_login_method = api",
            'forced_chatgpt_workspace_id=["org-1"]',
            "chatgpt_base_url='http://127.0.0.1:1/x?a=b'",
            "model_provider=mine",
            "model_providers.mine.requires_openai_auth=true",
        ],
    )
    assert config == Config(Policy(LoginMethod.API, ("org-1",)), StoreMode.EPHEMERAL, "http://127.0.0.1:1/x?a=b", True)


def test_an_override_makes_the_tables_it_needs(tmp_path: Path) -> None:
    write(tmp_path, "model_providers = 3")
    overrides = ["model_providers.mine.requires_openai_auth=false", "model_provider=mine"]
    assert load_config(tmp_path, overrides).requires_openai_auth is False


@pytest.mark.parametrize("text", ["forced_login_method", "=api", "a..b=1", ""])
def test_an_override_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load_config(tmp_path, [text])


def test_a_wrong_override_is_named_as_one(tmp_path: Path) -> None:
    write(tmp_path, 'forced_login_method = "api"')
    with pytest.raises(ConfigError, match=r"the override \(-c\): forced_login_method must be") as caught:
        load_config(tmp_path, ["forced_login_method=5"])
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("system", "home", "override", "decides"),
    [
        ("", "", "", None),
        ("api", "", "", "api"),
        ("api", "chatgpt", "", "chatgpt"),
        ("api", "chatgpt", "api", "api"),
    ],
)
@pytest.mark.parametrize("managed", ["", "api", "chatgpt"])
def test_the_order_of_the_files_is_the_one_of_codex(
    tmp_path: Path, system: str, home: str, override: str, decides: str | None, managed: str
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    for file, value in (
        (folder / "config.toml", system),
        (tmp_path / "config.toml", home),
        (folder / "managed_config.toml", managed),
    ):
        file.write_text(f'forced_login_method = "{value}"' if value else "")
    overrides = [f"forced_login_method={override}"] if override else []
    assert load_config(tmp_path, overrides, str(folder)).policy.forced_login_method == (managed or decides)


@pytest.mark.parametrize(
    ("required", "home", "policy"),
    [
        ('allowed_login_methods = ["chatgpt"]', "", Policy(LoginMethod.CHATGPT)),
        ('allowed_login_methods = ["api", "chatgpt"]', "", Policy()),
        ('allowed_login_methods = ["api", "chatgpt"]', 'forced_login_method = "api"', Policy(LoginMethod.API)),
        ('allowed_chatgpt_workspaces = [" r ", ""]', "", Policy(None, ("r",))),
        ('allowed_chatgpt_workspaces = ["r", "h"]', 'forced_chatgpt_workspace_id = "h"', Policy(None, ("h",))),
        ('allowed_chatgpt_workspaces = ["r"]', 'forced_chatgpt_workspace_id = "h"', Policy(LoginMethod.API)),
        ("allowed_chatgpt_workspaces = []", "", Policy(LoginMethod.API)),
        ('forced_login_method = "api"', "", Policy()),
    ],
)
def test_requirements_restrict_what_the_files_say(tmp_path: Path, required: str, home: str, policy: Policy) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "requirements.toml").write_text(required + '\ncli_auth_credentials_store = "ephemeral"')
    write(tmp_path, home)
    config = load_config(tmp_path, ["cli_auth_credentials_store=file"], str(folder))
    assert (config.policy, config.store_mode) == (policy, StoreMode.EPHEMERAL)


@pytest.mark.parametrize(
    ("required", "said"),
    [
        ("allowed_login_methods = []", "allow no way to sign in"),
        ('allowed_login_methods = ["chatgpt"]', "allow no way to sign in"),
        ('allowed_login_methods = ["bogus"]', "allowed_login_methods must be"),
        ("allowed_login_methods = 3", "allowed_login_methods must be"),
        ('allowed_chatgpt_workspaces = "r"', "allowed_chatgpt_workspaces must be"),
        ('cli_auth_credentials_store = "zz"', "cli_auth_credentials_store must be"),
        ("a =", "is not valid TOML"),
    ],
)
def test_requirements_that_cannot_be_met_or_read_are_named(tmp_path: Path, required: str, said: str) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "requirements.toml"
    file.write_text(required)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, ["forced_login_method=api"], str(folder))
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_the_environment_has_its_defaults(tmp_path: Path) -> None:
    found = Environment.read({"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CODEX_HOME": " "})
    assert found == Environment(home=tmp_path / ".codex", network=Network())
    assert (found.issuer, found.client_id) == ("https://auth.openai.com", "app_EMoamEEZ73f0CkXaXp7hrann")


def test_every_variable_is_read(tmp_path: Path) -> None:
    found = Environment.read(
        {
            "CODEX_HOME": str(tmp_path),
            "CODEX_API_KEY": " sk-canary ",
            "OPENAI_API_KEY": "sk-not-this",
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": "http://127.0.0.1:1/token",
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE": "http://127.0.0.1:1/revoke",
            "CODEX_APP_SERVER_LOGIN_ISSUER": "http://127.0.0.1:1/",
            "CODEX_APP_SERVER_LOGIN_CLIENT_ID": "app_test",
        }
    )
    assert found.api_key is not None
    assert found.api_key.key.reveal() == "sk-canary"
    assert found.home == Path(os.path.realpath(tmp_path))
    assert (found.refresh_url, found.revoke_url) == ("http://127.0.0.1:1/token", "http://127.0.0.1:1/revoke")
    assert (found.issuer, found.client_id) == ("http://127.0.0.1:1", "app_test")
    assert "canary" not in repr(found)


def test_the_home_is_expanded_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(os.path.realpath(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    assert Environment.read({"CODEX_HOME": "here"}).home == real / "here"
    user = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    assert Environment.read({**user, "CODEX_HOME": "~/there"}).home == real / "there"
    assert Environment.read({**user, "CODEX_HOME": "~"}).home == real


@pytest.mark.skipif(os.name == "nt", reason="the system keeps a record of its users elsewhere")
def test_without_a_home_variable_the_system_knows_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    registered = pwd.getpwuid(os.getuid()).pw_dir
    for environ in ({"HOME": ""}, {}):
        assert Environment.read(environ).home == Path(registered, ".codex")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="set CODEX_HOME"):
        Environment.read({"HOME": ""})


def test_a_home_that_the_system_will_not_follow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os.path, "realpath", denied)
    with pytest.raises(ConfigError, match="CODEX_HOME cannot be /some/where: permission denied"):
        Environment.read({"CODEX_HOME": "/some/where"})


@pytest.mark.parametrize(
    "name",
    ["CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE", "CODEX_APP_SERVER_LOGIN_ISSUER"],
)
@pytest.mark.parametrize(
    "url",
    [
        *("localhost:1", "//h", "https://", "https:///path", "http://:80", "https://[::1"),
        *("http://h:99999", "http://h:x", "http://h:0"),
        *("javascript://h/%0Aalert(1)", "file:///etc", "http://h\x1b[2J", "http://h/a b", "ftp://h"),
    ],
)
def test_a_variable_that_is_no_url_is_named(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Environment.read({"CODEX_HOME": os.curdir, name: url})


@pytest.mark.parametrize("url", ["https://h", "HTTP://127.0.0.1:1/x", "http://[::1]:8080", "https://u:p@h/a?b=c"])
def test_a_variable_that_is_a_url_is_taken(url: str) -> None:
    environment = Environment.read({"CODEX_HOME": os.curdir, "CODEX_APP_SERVER_LOGIN_ISSUER": url})
    assert environment.issuer == url


def test_a_key_that_is_none_is_named_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="CODEX_API_KEY") as caught:
        Environment.read({"CODEX_HOME": os.curdir, "CODEX_API_KEY": "sk canary"})
    assert "canary" not in str(caught.value)


def test_each_mode_has_its_store(tmp_path: Path) -> None:
    places = {
        mode: open_store(Config(store_mode=mode), Environment(home=tmp_path)).describe()
        for mode in (StoreMode.FILE, StoreMode.KEYRING, StoreMode.AUTO)
    }
    entry = f'the keyring entry "Codex Auth", account "{account_of_home(tmp_path)}"'
    assert places == {
        StoreMode.FILE: str(tmp_path / "auth.json"),
        StoreMode.KEYRING: entry,
        StoreMode.AUTO: entry,
    }


def test_ephemeral_is_memory(tmp_path: Path) -> None:
    assert isinstance(open_store(Config(store_mode=StoreMode.EPHEMERAL), Environment(home=tmp_path)), MemoryStore)


async def test_the_engine_has_policy_key_and_store(tmp_path: Path) -> None:
    environment = Environment.read({"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CODEX_API_KEY": "sk-test"})
    policy = Policy(forced_login_method=LoginMethod.API)
    async with open_engine(Config(policy=policy), environment) as engine:
        assert engine.policy == policy
        assert (await engine.authorization()).token.reveal() == "sk-test"
    assert not (tmp_path / ".codex").exists()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ('"HERE"', "leave out the quotation marks"),
        ("'HERE'", "leave out the quotation marks"),
        ("$HOME/.codex", "no shell replaces the $"),
        ("~/missing", "no shell replaces the ~"),
        ("~somebody/.codex", "no shell replaces the ~"),
        ("HERE/missing", "make the folder"),
        ("missing", "make the folder"),
        ("HERE/file", "which is not a folder"),
        ("HERE/file/inner", "no such folder"),
    ],
)
def test_a_named_home_that_is_no_folder_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    named = named.replace("HERE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        Environment.read({"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CODEX_HOME": named})
    assert f"CODEX_HOME is {named}" in str(caught.value)
    assert said in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_options_replace_what_is_configured(tmp_path: Path) -> None:
    engine = open_engine(Config(), Environment(home=tmp_path), store=MemoryStore(), policy=Policy(None, ("org-1",)))
    assert engine.policy.forced_workspaces == ("org-1",)


def test_the_fast_path_imports_no_parser_and_no_network(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from authstate.adapters.assembly import open_engine;"
        "from authstate.adapters.config import Environment, load_config; home = Path(sys.argv[1]);"
        "open_engine(load_config(home), Environment(home=home));"
        "print([x for x in ('tomli', 'tomllib', 'filelock', 'keyring', 'httpx', 'tempfile') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "ports"), [("", ()), (" 1455, 1457 ", (1455, 1457)), ("0", (0,)), ("65535 1", (65535, 1))]
)
def test_the_ports_of_the_redirect(value: str, ports: tuple[int, ...]) -> None:
    assert Environment.read({"HOME": "/home/somebody", "AUTHSTATE_REDIRECT_PORTS": value}).redirect_ports == ports


@pytest.mark.parametrize("value", ["65536", "-1", "http", "1455;1457", "٣", "0" * 5000])
def test_ports_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="AUTHSTATE_REDIRECT_PORTS"):
        Environment.read({"HOME": "/home/somebody", "AUTHSTATE_REDIRECT_PORTS": value})


async def test_an_engine_without_arguments_uses_the_login_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    write(tmp_path, 'forced_login_method = "api"')
    async with open_engine() as engine:
        await engine.use_api_key("sk-example")
        assert engine.policy.forced_login_method is LoginMethod.API
    assert (tmp_path / "auth.json").exists()


async def test_an_engine_can_be_given_a_home_and_an_account(tmp_path: Path) -> None:
    async with open_engine(home=tmp_path) as engine:
        await engine.use_api_key("sk-example")
    assert (tmp_path / "auth.json").exists()
    with pytest.raises(ConfigError, match="no account 'work'"):
        open_engine(home=tmp_path, account="work")
    with pytest.raises(ConfigError, match="no such folder"):
        open_engine(home=tmp_path / "missing")
    with pytest.raises(TypeError, match="not both"):
        open_engine(environment=Environment(home=tmp_path), home=tmp_path)
