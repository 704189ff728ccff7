"""A vault of a home, in files."""

from pathlib import Path

import pytest

from authstate.adapters.config import StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.credentials import Credentials
from authstate.engine.ports import CredentialStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def vault(home: Path) -> Vault:
    """Its vault."""
    return Vault(home, StoreMode.FILE)


async def save(store: CredentialStore, credentials: Credentials | None) -> None:
    """Store a login, or none, as another process would."""
    async with store.locked() as held:
        await (held.delete() if credentials is None else held.save(credentials))
