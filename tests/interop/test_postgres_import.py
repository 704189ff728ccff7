"""`authstate postgres import` as a process: from a real keyring, and from homes with and without a login that moves."""

import asyncio
import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import fill
from support.real_parts import RealParts
from support.secret_service import SecretService
from support.wire_client import AUTHSTATE, clean_environment

from authstate import EncryptionKeys, PostgresDatabase
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.testing import LoopbackIssuer

KEY = b"k" * 32


class Import:
    """Moves the login of a home.

    Args:
        url: of the database.
        folder: for the home and the keys.
        issuer: of the logins.
    """

    def __init__(self, url: str, folder: Path, issuer: LoopbackIssuer) -> None:
        self.url = url
        self.issuer = issuer
        self.home = folder / "home"
        self.variables: dict[str, str] = {}
        self._keys = folder / "keys"
        self._keys.write_text(f"first={base64.b64encode(KEY).decode()}\n")
        self._keys.chmod(0o600)

    def run(self, *words: str, expected: int) -> str:
        """Run the command. Returns what it says."""
        command = [*AUTHSTATE, "postgres", "import", str(self.home), "--as", "alice", "--keys", str(self._keys), *words]
        environment = clean_environment(self.home, AUTHSTATE_DATABASE_URL=self.url, **self.variables)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        assert done.returncode == expected, said
        assert "Traceback" not in said and "rt-" not in said and "sk-" not in said
        return said

    def stored(self) -> Credentials | None:
        """What is in the database."""

        async def load() -> Credentials | None:
            async with PostgresDatabase(self.url, EncryptionKeys({"first": KEY}), listens=False) as database:
                return await database.store("alice").load()

        return asyncio.run(load())


@pytest.fixture
def moving(database_url: str, tmp_path: Path, issuer: LoopbackIssuer) -> Import:
    return Import(database_url, tmp_path, issuer)


@pytest.fixture(scope="module")
def keyring(real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretService]:
    real_parts.keyring()
    service = SecretService(tmp_path_factory.mktemp("keyring")).start()
    yield service
    service.stop()


def sign_in(moving: Import, key: str) -> None:
    """Store a key where the configuration of the home says."""
    command = [*AUTHSTATE, "login", "--with-api-key"]
    environment = clean_environment(moving.home, **moving.issuer.environment, **moving.variables)
    done = subprocess.run(command, env=environment, input=key, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", ["keyring", "auto"])
def test_a_login_moves_out_of_a_keyring(mode: str, moving: Import, keyring: SecretService) -> None:
    fill(moving.home, moving.issuer, config=f'cli_auth_credentials_store = "{mode}"')
    moving.variables = dict(keyring.environment)
    sign_in(moving, "sk-moved-0123456789")
    assert not (moving.home / "auth.json").exists()
    assert "Moved the login of home to account alice in PostgreSQL at" in moving.run(expected=0)
    assert moving.stored() == ApiKey.parse("sk-moved-0123456789")
    assert "nobody is signed in in" in moving.run(expected=1)


def test_a_login_in_a_keyring_that_cannot_be_reached_stays_there(moving: Import, keyring: SecretService) -> None:
    fill(moving.home, moving.issuer, config='cli_auth_credentials_store = "keyring"')
    moving.variables = dict(keyring.environment)
    sign_in(moving, "sk-moved-0123456789")
    moving.variables = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/no/such"}
    said = moving.run(expected=1)
    assert "keyring" in said and "Moved" not in said
    assert moving.stored() is None
    moving.variables = dict(keyring.environment)
    assert "Moved the login of home" in moving.run(expected=0)


def test_a_key_moves_out_of_a_file(moving: Import) -> None:
    fill(moving.home, moving.issuer, auth={"auth_mode": "apikey", "OPENAI_API_KEY": "sk-moved-0123456789"})
    assert "Moved the login of home" in moving.run(expected=0)
    assert moving.stored() == ApiKey.parse("sk-moved-0123456789")
    assert not (moving.home / "auth.json").exists()


def test_tokens_without_a_refresh_token_move(moving: Import) -> None:
    tokens = {**moving.issuer.seed(email="person@example.com"), "refresh_token": ""}
    auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}
    fill(moving.home, moving.issuer, auth=auth)
    assert "Moved the login of home" in moving.run(expected=0)
    assert isinstance(moving.stored(), ChatgptTokens)


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        pytest.param("", 1, "nobody is signed in in", id="absent"),
        pytest.param('{"auth_mode": "chatgpt", "tok', 1, "auth.json", id="damaged"),
        pytest.param('{"auth_mode": "chatgptAuthTokens", "tokens": {}}', 1, "auth.json", id="external"),
        pytest.param('{"auth_mode": "of a later codex"}', 1, "unknown kind", id="unknown"),
    ],
)
def test_what_does_not_move_stays_as_it_is(raw: str, status: int, said: str, moving: Import) -> None:
    fill(moving.home, moving.issuer, raw=raw)
    assert said in moving.run(expected=status)
    assert moving.stored() is None
    file = moving.home / "auth.json"
    assert (file.read_text() if file.exists() else "") == raw


def test_a_login_in_memory_does_not_move(moving: Import) -> None:
    fill(moving.home, moving.issuer, config='cli_auth_credentials_store = "ephemeral"')
    assert "keeps the login in memory: nothing can be moved" in moving.run(expected=3)
