"""A real keyring (gnome-keyring's Secret Service): the contract, and both ways with the real codex in keyring mode."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import keyring
import pytest
import secretstorage
from keyring.backends import SecretService as Backend
from support.codex_binaries import NEW, OLD
from support.real_parts import RealParts
from support.secret_service import SecretService

from authstate import ChatgptTokens
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import SERVICE, AutoStore, KeyringStore, account_of_home
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CredentialStore
from authstate.testing import LoopbackIssuer, StoreContract, make_tokens

KEY, OTHER = ApiKey.parse("sk-authstate-0123456789abc"), ApiKey.parse("sk-codex-0123456789abcdef")
KEYRING_MODE = ("-c", 'cli_auth_credentials_store="keyring"')


@pytest.fixture(scope="module")
def installed(real_parts: RealParts) -> None:
    real_parts.keyring()


def reach(service: SecretService) -> Iterator[SecretService]:
    """Let this process use the keyring, and undo that."""
    before, address = keyring.get_keyring(), os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    os.environ |= service.environment
    keyring.set_keyring(Backend.Keyring())
    yield service
    keyring.set_keyring(before)
    os.environ.pop("DBUS_SESSION_BUS_ADDRESS")
    if address is not None:
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = address


@pytest.fixture(scope="module")
def running(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretService]:
    service = SecretService(tmp_path_factory.mktemp("keyring")).start()
    yield service
    service.stop()


@pytest.fixture
def service(running: SecretService) -> Iterator[SecretService]:
    """The one keyring of all tests; each test has a home, and so an entry, of its own."""
    yield from reach(running)


@pytest.fixture
def own_service(installed: None, tmp_path: Path) -> Iterator[SecretService]:
    """A keyring that the test may spoil."""
    service = SecretService(tmp_path).start()
    yield from reach(service)
    service.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.mark.usefixtures("service")
class TestKeyring(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, home: Path) -> None:
        self.home = home

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return KeyringStore(self.home, lock_timeout=lock_timeout)


class TestAuto(TestKeyring):
    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return AutoStore(self.home, lock_timeout=lock_timeout)


def run(command: list[str], home: Path, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "COV_CORE_"))}
    environment |= {"CODEX_HOME": str(home), **variables}
    return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, timeout=60)


def codex_status(codex: Path, home: Path) -> str:
    ran = run([str(codex), *KEYRING_MODE, "login", "status"], home)
    return (ran.stdout + ran.stderr).strip() if ran.returncode == 0 else f"not signed in ({ran.returncode})"


def codex_login(codex: Path, home: Path, key: ApiKey) -> None:
    ran = run([str(codex), *KEYRING_MODE, "login", "--with-api-key"], home, key.key.reveal() + "\n")
    assert ran.returncode == 0, ran.stderr


def authstate(home: Path, *arguments: str, mode: str = "keyring", **variables: str) -> subprocess.CompletedProcess[str]:
    setting = f'cli_auth_credentials_store="{mode}"'
    return run([sys.executable, "-m", "authstate.adapters.cli", "-c", setting, *arguments], home, **variables)


async def save(store: CredentialStore, credentials: Credentials) -> None:
    async with store.locked() as held:
        await held.save(credentials)


def items(home: Path) -> list[str]:
    """The path of every item of the home's entry. gnome-keyring keeps it for an item's life; attributes it adds to."""
    with closing(secretstorage.dbus_init()) as connection:
        query = {"service": SERVICE, "username": account_of_home(home)}
        return [item.item_path for item in secretstorage.get_default_collection(connection).search_items(query)]


def shown(key: ApiKey) -> str:
    """The part of a key that `codex login status` shows."""
    return key.key.reveal()[-5:]


@pytest.mark.usefixtures("service")
async def test_codex_reads_what_authstate_stored(codex: Path, home: Path) -> None:
    await save(KeyringStore(home), KEY)
    assert shown(KEY) in codex_status(codex, home)
    await save(KeyringStore(home), make_tokens())
    assert "ChatGPT" in codex_status(codex, home)
    async with KeyringStore(home).locked() as held:
        await held.delete()
    assert codex_status(codex, home) == "not signed in (1)"
    assert items(home) == []


@pytest.mark.usefixtures("service")
async def test_authstate_reads_what_codex_stored_and_replaces_it_in_place(codex: Path, home: Path) -> None:
    codex_login(codex, home, OTHER)
    assert await KeyringStore(home).load() == OTHER
    change = await KeyringStore(home).last_change()
    assert change is not None
    assert change.is_foreign
    [before] = items(home)
    await save(KeyringStore(home), KEY)
    assert items(home) == [before], "a second item would leave codex with the first"
    assert shown(KEY) in codex_status(codex, home)
    codex_login(codex, home, OTHER)
    assert len(items(home)) == 1
    assert await KeyringStore(home).load() == OTHER
    ran = run([str(codex), *KEYRING_MODE, "logout"], home)
    assert ran.returncode == 0, ran.stderr
    assert await KeyringStore(home).load() is None


@pytest.mark.usefixtures("service")
async def test_both_codex_versions_and_authstate_share_one_entry(binaries: dict[str, Path], home: Path) -> None:
    codex_login(binaries[OLD], home, OTHER)
    codex_login(binaries[NEW], home, KEY)
    assert await KeyringStore(home).load() == KEY
    await save(KeyringStore(home), OTHER)
    assert [shown(OTHER) in codex_status(binaries[version], home) for version in (OLD, NEW)] == [True, True]


@pytest.mark.usefixtures("service")
async def test_items_that_two_programs_left_become_one(binaries: dict[str, Path], home: Path) -> None:
    """As the `keyring` library does it: an item of its own beside codex's, and codex goes on with its own."""
    codex_login(binaries[OLD], home, OTHER)
    keyring.set_password(SERVICE, account_of_home(home), '{"auth_mode":"apikey","OPENAI_API_KEY":"sk-second"}')
    assert len(items(home)) == 2
    assert shown(OTHER) in codex_status(binaries[OLD], home)
    await save(KeyringStore(home), KEY)
    assert len(items(home)) == 1
    assert shown(KEY) in codex_status(binaries[OLD], home)
    assert await KeyringStore(home).load() == KEY


async def test_the_command_line_finds_the_keyring_by_itself(
    service: SecretService, issuer: LoopbackIssuer, binaries: dict[str, Path], home: Path
) -> None:
    """A refresh from one process to the next, with no auth.json anywhere; and the logout."""
    await save(AuthJsonStore(home), KEY)
    await save(KeyringStore(home), ChatgptTokens.read(**issuer.seed(expires_in=-60.0)))
    for _ in range(2):
        ran = authstate(home, "token", **issuer.environment)
        assert ran.returncode == 0, ran.stderr
    assert issuer.stats()["refreshes_accepted"] == 1
    status = authstate(home, "status")
    assert f'store         the keyring entry "Codex Auth", account "{account_of_home(home)}"' in status.stdout
    assert "ChatGPT" in codex_status(binaries[OLD], home)
    beside = {f"auth.json.authstate.{tail}" for tail in ("lock", "claims", "journal")}
    assert {name for name in os.listdir(home) if name.startswith("auth.json")} == beside
    assert authstate(home, "logout", **issuer.environment).returncode == 0
    assert items(home) == []


def test_a_machine_without_a_keyring(home: Path) -> None:
    variables = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/none"}
    ran = authstate(home, "status", mode="keyring", **variables)
    assert ran.returncode == 4
    assert "there is no keyring here for the keyring entry" in ran.stdout
    assert "Traceback" not in ran.stderr
    ran = authstate(home, "status", mode="auto", **variables)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert f"store         {home / 'auth.json'}" in ran.stdout


async def test_a_locked_keyring_without_a_screen(own_service: SecretService, home: Path) -> None:
    await save(KeyringStore(home), KEY)
    with closing(secretstorage.dbus_init()) as connection:
        secretstorage.get_default_collection(connection).lock()
    with pytest.raises(StoreUnavailable, match=r"locked|not answered") as caught:
        await KeyringStore(home, call_timeout=5.0).load()
    assert "Codex Auth" in str(caught.value)
    assert KEY.key.reveal() not in str(caught.value)


async def test_a_keyring_that_ends_underneath(own_service: SecretService, home: Path) -> None:
    await save(KeyringStore(home), KEY)
    own_service.stop()
    for attempt in (KeyringStore(home).load(), save(KeyringStore(home), OTHER)):
        with pytest.raises(StoreUnavailable, match="cannot read the keyring entry"):
            await asyncio.wait_for(attempt, 60)
