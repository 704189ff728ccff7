"""No error of a store leads to what is stored: not in the keyring, not in the file, whatever fails."""

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import keyring
import pytest
from keyring.errors import InitError, KeyringError, KeyringLocked, PasswordDeleteError
from support.fake_keyring import FakeKeyring, fake_keyring
from support.leaks import CANARY, assert_clean, assert_hidden

from authstate.adapters.config import ConfigError, Environment, load_config
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import SERVICE, AutoStore, KeyringStore, account_of_home
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.events import Event, Warned
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, make_jwt

__all__ = ["fake_keyring"]

TOKENS = ChatgptTokens.read(
    id_token=make_jwt(email="person@example.com") + CANARY,
    access_token=make_jwt(exp=9e9) + CANARY,
    refresh_token=f"rt-{CANARY}",
    account_id="org-1",
)
CLAIM = RefreshClaim(fingerprint_of(TOKENS.refresh_token), RefreshClaimState.CLAIMED)
KEYRINGS = (KeyringStore, AutoStore)
FAULTS = {
    "locked": KeyringLocked(CANARY),
    "refused": KeyringError(f"no room for {CANARY}"),
    "gone": InitError(CANARY),
    "too large": OSError(1783, CANARY),
    "a bug": RuntimeError(CANARY),
    "not deleted": PasswordDeleteError(CANARY),
}
WORK: dict[str, Callable[..., Awaitable[object]]] = {
    "load": lambda store, held: store.load(),
    "load under the lock": lambda store, held: held.load(),
    "prepare": lambda store, held: held.prepare(),
    "save": lambda store, held: held.save(TOKENS),
    "delete": lambda store, held: held.delete(),
    "last change": lambda store, held: store.last_change(),
}


class Failing(FakeKeyring):
    """A keyring that holds a login, and fails while it has it in its hands."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self._next = fault

    def fail(self) -> None:
        self.fault = self._next

    def get_password(self, service: str, username: str) -> str | None:
        found = super().get_password(service, username)
        self._look(found)
        return found

    def set_password(self, service: str, username: str, password: str) -> None:
        self._look(password)
        super().set_password(service, username, password)

    def delete_password(self, service: str, username: str) -> None:
        self._look(self.entries.get((service, username)))
        super().delete_password(service, username)

    def _look(self, held: str | None) -> None:
        if self.fault is not None:
            raise self.fault from ValueError(held)


@pytest.mark.parametrize("kind", KEYRINGS)
@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_keyring_that_fails(tmp_path: Path, fault: str, work: str, kind: type[KeyringStore]) -> None:
    backend = Failing(FAULTS[fault])
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        store = kind(tmp_path)
        async with store.locked() as held:
            await held.save(TOKENS)
        (tmp_path / "auth.json").mkdir()  # the other place of an `auto` store fails, too
        backend.fail()
        with pytest.raises(StoreUnavailable) as raised:
            async with store.locked() as held:
                await WORK[work](store, held)
    finally:
        keyring.set_keyring(before)
    assert_clean(raised.value)
    assert_hidden(store)


@pytest.mark.parametrize("kind", KEYRINGS)
async def test_a_keyring_that_holds_what_is_no_login(
    tmp_path: Path, fake_keyring: FakeKeyring, kind: type[KeyringStore]
) -> None:
    place = (SERVICE, account_of_home(tmp_path))
    for content in (f'{{"auth_mode": "chatgpt", "tokens": "{CANARY}"', f'{{"OPENAI_API_KEY": "{CANARY} x"}}', CANARY):
        fake_keyring.entries[place] = content
        store = kind(tmp_path)
        with pytest.raises(StoreUnavailable) as raised:
            await store.load()
        assert_clean(raised.value)


@pytest.mark.parametrize("kind", KEYRINGS)
async def test_a_keyring_that_does_not_answer(
    tmp_path: Path, fake_keyring: FakeKeyring, kind: type[KeyringStore]
) -> None:
    store = kind(tmp_path, call_timeout=0.05)
    (tmp_path / "auth.json").mkdir()
    fake_keyring.entries[SERVICE, account_of_home(tmp_path)] = CANARY
    fake_keyring.gate.clear()
    async with store.locked() as held:
        for work in WORK.values():
            with pytest.raises(StoreUnavailable) as raised:
                await work(store, held)
            assert_clean(raised.value)
        fake_keyring.gate.set()


class FailingDisk(Disk):
    """A disk on which one step fails."""

    def __init__(self) -> None:
        self.fails = ""

    def _step(self, name: str, data: object) -> None:
        if self.fails == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "auth.json") from ValueError(data)

    def read(self, path: str, limit: int) -> bytes:
        data = super().read(path, limit)
        self._step("read", data)
        return data

    def write(self, path: str, data: bytes) -> None:
        self._step("write", data)
        super().write(path, data)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", source)
        super().rename(source, target)

    def remove(self, path: str) -> None:
        self._step("remove", path)
        super().remove(path)

    def sync_folder(self, folder: str) -> None:
        self._step("sync_folder", folder)
        super().sync_folder(folder)


@pytest.mark.parametrize("step", ["read", "write", "rename", "remove", "sync_folder"])
async def test_a_disk_that_fails(tmp_path: Path, step: str) -> None:
    disk = FailingDisk()
    store = AuthJsonStore(tmp_path, disk=disk)
    async with store.locked() as held:
        await held.save(TOKENS)
        await held.prepare()  # so that a write fails in the save
        disk.fails = step
        calls = {**WORK, "record": lambda store, held: held.record(CLAIM)}
        failed = []
        for name, work in calls.items():
            try:
                await work(store, held)
            except StoreUnavailable as error:
                assert_clean(error)
                failed.append(name)
        disk.fails = ""
    assert failed


async def test_what_an_engine_remembers_of_a_store_that_failed(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(f'{{"auth_mode": "chatgpt", "tokens": {{"id_token": "{CANARY}"')
    events: list[Event] = []
    engine = AuthEngine(AuthJsonStore(tmp_path), FakeAuthority())
    engine.subscribe(events.append)
    await engine.start()
    assert engine.store_fault is not None
    assert engine.store_fault.__traceback__ is None, "it would keep the frames of the store"
    assert_clean(engine.store_fault)
    assert [type(event) for event in events] == [Warned]
    assert CANARY not in repr(events)
    await engine.close(0)


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    """The environment, which is in the frames, may hold a key; so may config.toml."""
    environ = {"CODEX_HOME": str(tmp_path), "CODEX_API_KEY": f"sk-{CANARY}", "OPENAI_API_KEY": CANARY}
    for name, value in (
        ("CODEX_API_KEY", f"{CANARY} x"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", f"http://person:{CANARY}@issuer.example"),
        ("CODEX_APP_SERVER_LOGIN_ISSUER", f"no URL: {CANARY}"),
        ("CODEX_HOME", str(tmp_path / "missing")),
    ):
        with pytest.raises(ConfigError) as refused:
            Environment.read({**environ, name: value})
        assert_clean(refused.value)
    for text in (f'chatgpt_base_url = "http://{CANARY}@backend.example"\n', f"key = {CANARY}", f'a = "{CANARY}'):
        (tmp_path / "config.toml").write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_config(tmp_path, [f'openai_api_key="{CANARY}"'], system=None, environ=environ)
        assert_clean(refused.value)


async def test_the_files_beside_the_login_hold_no_token(tmp_path: Path) -> None:
    store = AuthJsonStore(tmp_path)
    async with store.locked() as held:
        await held.record(CLAIM)
        await held.save(TOKENS)
    beside = [path for path in tmp_path.iterdir() if path.name != "auth.json"]
    assert len(beside) >= 2
    for path in beside:
        assert CANARY.encode() not in path.read_bytes()
    assert_hidden(CLAIM)
    assert_hidden(ApiKey(Secret(CANARY)))
