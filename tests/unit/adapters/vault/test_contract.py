"""The stores of the vault pass the contract of a store: the home's own account, taken over by the vault or not, and
the account that a process uses.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_keyring import fake_keyring, no_keyring
from unit.adapters.vault.conftest import save

from authstate.adapters.config import StoreMode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.engine.ports import CredentialStore
from authstate.testing import StoreContract, make_tokens

__all__ = ["fake_keyring", "no_keyring"]

KINDS: dict[StoreMode, Callable[..., CredentialStore]] = {
    StoreMode.FILE: AuthJsonStore,
    StoreMode.KEYRING: KeyringStore,
    StoreMode.AUTO: AutoStore,
}


class TimedVault(Vault):
    """A vault whose stores wait for their locks as long as a test says."""

    def __init__(self, home: Path, mode: StoreMode, lock_timeout: float) -> None:
        super().__init__(home, mode)
        self._kind = KINDS[mode]
        self._lock_timeout = lock_timeout

    def store_of_folder(self, folder: str) -> CredentialStore:
        return self._kind(folder, lock_timeout=self._lock_timeout)


def adopt_nobody(vault: Vault) -> None:
    """Leave a home with a lease on a login that is not there: nobody is signed in."""
    handle = LeaseHandle.of(b"0" * 32).secret.reveal()

    async def prepare() -> None:
        Path(vault.folder_of("home")).mkdir(parents=True)
        await save(vault.home_account.home, leased(make_tokens(), handle))

    asyncio.run(prepare())


class TestHomeAccount(StoreContract):
    mode = StoreMode.FILE

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"

    def vault(self, lock_timeout: float = 30.0) -> Vault:
        return TimedVault(self.home, self.mode, lock_timeout)

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return self.vault(lock_timeout).home_account


@pytest.mark.usefixtures("fake_keyring")
class TestHomeAccountInKeyring(TestHomeAccount):
    mode = StoreMode.KEYRING


@pytest.mark.usefixtures("fake_keyring")
class TestHomeAccountAuto(TestHomeAccount):
    mode = StoreMode.AUTO


@pytest.mark.usefixtures("no_keyring")
class TestHomeAccountAutoWithoutKeyring(TestHomeAccount):
    mode = StoreMode.AUTO


class TestAdopted(TestHomeAccount):
    """The vault has taken the login over: a lease stands in the home."""

    @pytest.fixture(autouse=True)
    def adopted(self, place: None) -> None:
        adopt_nobody(self.vault())


@pytest.mark.usefixtures("fake_keyring")
class TestAdoptedInKeyring(TestAdopted):
    mode = StoreMode.KEYRING

    @pytest.fixture(autouse=True)
    def adopted(self, place: None, fake_keyring: object) -> None:
        adopt_nobody(self.vault())


class TestPinned(TestHomeAccount):
    """A process that was told which account to use."""

    @pytest.fixture(autouse=True)
    def account(self, place: None) -> None:
        self.vault().add("work")

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return VaultStore(self.vault(lock_timeout), "work")


class TestSelected(TestHomeAccount):
    """A process that uses the account that is selected."""

    @pytest.fixture(autouse=True)
    def account(self, place: None) -> None:
        self.vault().select(self.vault().add("work").id)

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return VaultStore(self.vault(lock_timeout))


@pytest.mark.usefixtures("fake_keyring")
class TestPinnedInKeyring(TestPinned):
    mode = StoreMode.KEYRING


@pytest.mark.usefixtures("fake_keyring")
class TestSelectedAuto(TestSelected):
    mode = StoreMode.AUTO


class TestOfAHomeOfToday(TestHomeAccount):
    """A home without a vault."""

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return VaultStore(self.vault(lock_timeout))
