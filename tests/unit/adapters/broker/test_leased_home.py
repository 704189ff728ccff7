"""The home of a sandbox: a lease in the place of a login, and nothing that can be refreshed at the issuer."""

import json
import os
import stat
from pathlib import Path

import pytest
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.leased_home import ensure_usable, lease_environment, write_leased_home
from authstate.adapters.broker.token_grants import PresentedToken
from authstate.adapters.config import Config, ConfigError, load_config
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.lease_handle import LeaseHandle

URL = "http://127.0.0.1:4517"
OTHER = Config(chatgpt_base_url='http://127.0.0.1:1/back"end')
on_unix = pytest.mark.skipif(os.name == "nt", reason="modes are those of Unix")


async def write(world: BrokerInMemory, folder: Path, config: Config = OTHER) -> list[str]:
    made = await make_lease(world.broker, None)
    return await write_leased_home(str(folder), made, config, lease_environment(URL))


async def test_it_holds_the_access_token_and_a_handle(world: BrokerInMemory, tmp_path: Path) -> None:
    folder = tmp_path / "box" / "home"
    written = await write(world, folder)
    assert [os.path.basename(path) for path in written] == ["config.toml", "authstate.env", "auth.json"]
    stored = await world.vault.store("home").load()
    assert isinstance(stored, ChatgptTokens)
    members = json.loads((folder / "auth.json").read_text())
    assert members["tokens"]["access_token"] == stored.access_token.reveal()
    assert members["last_refresh"], "codex uses no tokens without it"
    handle = LeaseHandle.parse(members["tokens"]["refresh_token"])
    assert handle is not None
    assert world.leases.find(handle) is not None
    for path in folder.rglob("*"):
        assert stored.refresh_token.reveal() not in path.read_text()
    assert load_config(folder, system=None, environ={}).chatgpt_base_url == OTHER.chatgpt_base_url
    granted = await world.broker.grants.refresh(PresentedToken(handle.secret))
    assert granted.access_token == stored.access_token.reveal()


@on_unix
async def test_only_this_user_can_read_it(world: BrokerInMemory, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        await write(world, tmp_path / "box")
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "box", *(tmp_path / "box").iterdir())}
    assert modes.pop("box") == 0o700
    assert set(modes.values()) == {0o600}


async def test_settings_are_written_only_if_they_are_needed(world: BrokerInMemory, tmp_path: Path) -> None:
    await write(world, tmp_path / "plain", Config())
    assert not (tmp_path / "plain" / "config.toml").exists()
    box = tmp_path / "box"
    box.mkdir(mode=0o700)
    (box / "config.toml").write_text("# mine\n")
    await write(world, box)
    assert (box / "config.toml").read_text() == "# mine\n"


async def test_the_variables_are_those_of_an_env_file(world: BrokerInMemory, tmp_path: Path) -> None:
    await write(world, tmp_path / "box")
    lines = (tmp_path / "box" / "authstate.env").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines) == {
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{URL}/oauth/token",
        "CODEX_REVOKE_TOKEN_URL_OVERRIDE": f"{URL}/oauth/revoke",
        "AUTHSTATE_BROKER_URL": URL,
    }
    allowed = lease_environment("http://host.docker.internal:4517", "host.docker.internal")
    assert allowed["AUTHSTATE_ALLOW_HTTP_HOSTS"] == "host.docker.internal"


async def test_a_login_is_never_overwritten(world: BrokerInMemory, tmp_path: Path) -> None:
    box = tmp_path / "box"
    await write(world, box)
    before = (box / "auth.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a login already"):
        await write(world, box)
    assert (box / "auth.json").read_bytes() == before
    broken = tmp_path / "broken"
    broken.mkdir(mode=0o700)
    (broken / "auth.json").write_text("{nonsense")
    with pytest.raises(ConfigError, match="holds a login already"):
        await write(world, broken)


@on_unix
def test_a_folder_that_others_can_use(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    box.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        ensure_usable(str(box))
    box.chmod(0o700)
    ensure_usable(str(box))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        ensure_usable(str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="not a directory"):
        ensure_usable(str(tmp_path / "file" / "box"))


async def test_what_cannot_be_leased(world: BrokerInMemory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nobody'"):
        await make_lease(world.broker, "nobody")
    empty, key = world.vault.add("empty"), world.vault.add("key")
    with pytest.raises(NotSignedIn):
        await make_lease(world.broker, empty.id)
    await world.store(ApiKey.parse("sk-key-1"), key.id)
    with pytest.raises(ConfigError, match="API key"):
        await make_lease(world.broker, "key")
    await write(world, tmp_path / "box")
    async with BrokerInMemory(tmp_path / "box").broker as other:
        with pytest.raises(ConfigError, match="is itself a lease"):
            await make_lease(other, None)
    assert len(world.leases.leases()) == 1
