"""A home whose login is moved into its vault and back, for tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_keyring import FakeKeyring

from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault.adoption import Adoption
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import LeaseState
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.lease_handle import LeaseHandle

COLLEAGUE: dict[str, Any] = {"email": "colleague@example.com", "account_id": "org-2", "user_id": "user-2"}


class Home:
    """A home, and what a new process sees of it."""

    def __init__(self, folder: Path, mode: StoreMode) -> None:
        self.folder = folder
        self.mode = mode
        self.leases = LeaseBook(str(folder / "authstate"))

    @property
    def vault(self) -> Vault:
        return Vault(self.folder, self.mode)

    @property
    def adoption(self) -> Adoption:
        return Adoption(self.vault, self.leases)

    async def stands_there(self) -> Credentials | None:
        """What codex finds."""
        return await self.vault.home_account.home.load()

    async def handle(self) -> LeaseHandle:
        """The handle that stands in the home."""
        tokens = await self.stands_there()
        assert isinstance(tokens, ChatgptTokens)
        handle = LeaseHandle.parse(tokens.refresh_token.reveal())
        assert handle is not None
        return handle

    async def in_vault(self) -> Credentials | None:
        return await self.vault.home_account.adopted.load()

    async def sign_in(self, credentials: Credentials) -> None:
        """Store a login as codex does: over whatever stands there."""
        async with self.vault.home_account.home.locked() as held:
            await held.save(credentials)

    async def sign_out(self) -> None:
        async with self.vault.home_account.home.locked() as held:
            await held.delete()

    def active(self) -> list[str]:
        """The digests of the home's leases that yield tokens."""
        return [one.digest for one in self.leases.leases() if one.state is LeaseState.ACTIVE and one.is_of_home]


def write_as_codex(home: Home, tokens: ChatgptTokens | None) -> None:
    """What codex does without a lock: it writes auth.json in place, or removes it."""
    path = home.folder / "auth.json"
    if tokens is None:
        path.unlink()
        return
    names = ("id_token", "access_token", "refresh_token")
    members = {name: getattr(tokens, name).reveal() for name in names} | {"account_id": tokens.account.account_id}
    path.write_text(json.dumps({"auth_mode": "chatgpt", "tokens": members, "last_refresh": "2026-01-01T00:00:00Z"}))


def failing(step: str, file: str) -> Callable[..., Any]:
    """A step of a disk that fails for the files that end so."""
    original = getattr(Disk, step)

    def fail(disk: Disk, path: str, *rest: Any) -> Any:
        if path.endswith(file):
            raise OSError(28, "No space left on device", path)
        return original(disk, path, *rest)

    return fail


@pytest.fixture(params=[StoreMode.FILE, StoreMode.KEYRING, StoreMode.AUTO], ids=lambda mode: mode.value)
def home(request: pytest.FixtureRequest, tmp_path: Path, fake_keyring: FakeKeyring) -> Home:
    """A home in each kind of store. It needs the fixture `fake_keyring`."""
    return Home(tmp_path, request.param)
