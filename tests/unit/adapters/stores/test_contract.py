"""Every store passes the one contract; and the contract fails a store that breaks it."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.fake_keyring import FakeKeyring, fake_keyring, no_keyring
from support.paths import REPO

from authstate.adapters.assembly import open_store
from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.stores.memory import MemoryStore
from authstate.engine.machines.refresh_claim import RefreshClaim, with_claim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import AuthError
from authstate.engine.ports import CredentialStore, HeldStore
from authstate.testing import StoreContract

__all__ = ["FakeKeyring", "fake_keyring", "no_keyring"]


class TestMemory(StoreContract):
    """`ephemeral`: the memory is the place, so every process of the contract is the same object."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        store = open_store(Config(store_mode=StoreMode.EPHEMERAL), Environment(home=tmp_path))
        assert isinstance(store, MemoryStore)
        self.store = store

    lock_timeout: float | None = None

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        self.store.lock_timeout = self.lock_timeout or lock_timeout
        return self.store


class TestFile(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"

    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return AuthJsonStore(self.home, lock_timeout=lock_timeout)


@pytest.mark.usefixtures("fake_keyring")
class TestKeyring(TestFile):
    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return KeyringStore(self.home, lock_timeout=lock_timeout)


@pytest.mark.usefixtures("fake_keyring")
class TestAuto(TestFile):
    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return AutoStore(self.home, lock_timeout=lock_timeout)


@pytest.mark.usefixtures("no_keyring")
class TestAutoWithoutKeyring(TestFile):
    def open_store(self, lock_timeout: float = 30.0) -> CredentialStore:
        return AutoStore(self.home, lock_timeout=lock_timeout)


class NoLock(MemoryStore):
    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        yield Held(self)


class LockThatStays(MemoryStore):
    """The lock is not given back when its holder fails."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        if not self._lock.locked():
            await self._lock.acquire()
            yield Held(self)
            self._lock.release()
        else:
            async with super().locked() as held:
                yield held


class Held:
    """A store's content while its lock is held, with one step that may be wrong."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def load(self) -> Credentials | None:
        return self.store.credentials

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def save(self, credentials: Credentials) -> None:
        self.store.credentials = credentials

    async def delete(self) -> None:
        self.store.credentials = None

    async def record(self, claim: RefreshClaim) -> None:
        self.store.claims = with_claim(self.store.claims, claim)


class Forgets(Held):
    async def save(self, credentials: Credentials) -> None:
        if self.store.credentials is None:
            await super().save(credentials)


class KeepsWhatIsDeleted(Held):
    async def delete(self) -> None:
        """The fault: nothing happens."""


class TwoSteps(Held):
    async def save(self, credentials: Credentials) -> None:
        self.store.credentials = None
        await asyncio.sleep(0)
        await super().save(credentials)


class PreparesTooMuch(Held):
    async def prepare(self) -> None:
        self.store.credentials = None


class HeldFault(MemoryStore):
    """A store with a lock, whose held part is of the class `fault`."""

    fault: type[Held] = Held

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked():
            yield self.fault(self)


BROKEN = {
    "no lock": (NoLock, Held, {"there_is_one_holder_at_a_time", "a_waiter_times_out_and_can_still_read"}),
    "a lock that stays": (LockThatStays, Held, {"an_error_of_the_holder_frees_the_lock"}),
    "stores external tokens": (HeldFault, Held, {"external_tokens_are_refused"}),
    "keeps the first": (HeldFault, Forgets, {"two_saves_in_one_hold_keep_the_second"}),
    "keeps what is deleted": (HeldFault, KeepsWhatIsDeleted, {"a_delete_leaves_nothing_and_may_be_repeated"}),
    "saves in two steps": (
        HeldFault,
        TwoSteps,
        {"a_reader_sees_the_old_or_the_new", "a_save_that_is_cancelled_is_whole_or_not_at_all"},
    ),
    "prepares too much": (HeldFault, PreparesTooMuch, {"a_preparation_that_is_not_used_changes_nothing"}),
}


@pytest.mark.parametrize(("kind", "fault", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_the_contract_finds_what_is_broken(
    kind: type[MemoryStore], fault: type[Held], expected: set[str], tmp_path: Path
) -> None:
    failed = set()
    for name in [name for name in dir(StoreContract) if name.startswith("test_")]:
        contract = TestMemory()
        contract.store = kind()
        if isinstance(contract.store, HeldFault):
            contract.store.fault = fault
        contract.lock_timeout = 0.1
        try:
            getattr(contract, name)()
        except (AssertionError, pytest.fail.Exception, AuthError):
            failed.add(name.removeprefix("test_"))
    assert expected <= failed
    assert len(failed) < len(dir(StoreContract)) / 2, "a contract that fails everything finds nothing"


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (REPO / "docs" / "embedding.md").read_text(encoding="utf-8")
    [example] = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "StoreContract" in block]
    (tmp_path / "test_my_store.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "test_my_store.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    tests = [name for name in dir(StoreContract) if name.startswith("test_")]
    assert f"{len(tests)} passed" in ran.stdout, ran.stdout
    assert f"pytest collects {len(tests)} tests" in page
