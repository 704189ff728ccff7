"""The kind of store that the configuration selects, and what a store may leave out."""

from pathlib import Path

import pytest

from authstate.adapters.config import StoreMode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.vault.account_stores import findings_of, last_change_of, revision_of, store_in


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (StoreMode.FILE, AuthJsonStore),
        (StoreMode.KEYRING, KeyringStore),
        (StoreMode.AUTO, AutoStore),
        (StoreMode.EPHEMERAL, MemoryStore),
    ],
)
def test_each_setting_has_its_store_which_touches_nothing_yet(mode: StoreMode, kind: type, tmp_path: Path) -> None:
    folder = tmp_path / "not made"
    assert type(store_in(folder, mode)) is kind
    assert not folder.exists()


async def test_a_store_that_knows_no_more_than_it_must_is_enough() -> None:
    store = MemoryStore()
    assert revision_of(store) is None
    assert await last_change_of(store) is None
    assert findings_of(store) == []
