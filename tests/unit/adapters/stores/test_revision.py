"""A store tells cheaply whether what it holds can have changed, whoever changed it and wherever it is kept."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_keyring import FakeKeyring, fake_keyring

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.ports import HasRevision
from authstate.testing import make_tokens

__all__ = ["fake_keyring"]

Store = AuthJsonStore | KeyringStore | AutoStore


async def save(store: Store, credentials: Credentials | None) -> None:
    async with store.locked() as held:
        await (held.delete() if credentials is None else held.save(credentials))


@pytest.mark.parametrize("kind", [AuthJsonStore, KeyringStore, AutoStore])
async def test_it_is_other_after_each_change_of_another_process(
    kind: Callable[[Path], Any], tmp_path: Path, fake_keyring: FakeKeyring
) -> None:
    ours, theirs = kind(tmp_path / "home"), kind(tmp_path / "home")
    assert issubclass(type(ours), HasRevision)
    stamps = [ours.revision()]
    for change in (make_tokens(), ApiKey.parse("sk-1"), None, make_tokens(account_id="org-2"), None):
        await save(theirs, change)
        stamps.append(ours.revision())
        await ours.load()
        assert ours.revision() == stamps[-1]
    assert len({repr(revision) for revision in stamps}) == len(stamps)
    assert None not in stamps


@pytest.mark.parametrize("kind", [KeyringStore, AutoStore])
@pytest.mark.parametrize("call", ["set", "delete"])
async def test_it_is_other_again_once_a_keyring_has_done_what_took_its_time(
    call: str, kind: Callable[[Path], Any], tmp_path: Path, fake_keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may ask the person first: who saw the sign of the change before it would else not look again."""
    store, enter, early = kind(tmp_path), fake_keyring._enter, list[object]()
    await save(store, ApiKey.parse("sk-1"))

    def enter_and_look(name: str) -> None:
        if name == call:
            os.utime(tmp_path / "auth.json.authstate.lock", (1.0, 1.0))  # it takes longer than a file's time is exact
            early.append(store.revision())
        enter(name)

    monkeypatch.setattr(fake_keyring, "_enter", enter_and_look)
    await save(store, ApiKey.parse("sk-2") if call == "set" else None)
    assert early[-1] != store.revision()


async def test_it_is_other_after_a_change_of_a_program_that_leaves_no_mark(tmp_path: Path) -> None:
    store = AuthJsonStore(tmp_path)
    await save(store, make_tokens())
    before = store.revision()
    (tmp_path / "auth.json").write_text("{}")
    changed = store.revision()
    (tmp_path / "auth.json").unlink()
    assert before != changed != store.revision() != before


def test_nothing_is_known_where_nobody_may_look(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    assert AuthJsonStore(tmp_path / "home").revision() is None
