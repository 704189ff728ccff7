"""The keyring stores: codex's names, one place at a time, bounded waits, late writes, and clear errors."""

import asyncio
import json
import os
import threading
from pathlib import Path

import keyring
import keyring.backends.chainer
import keyring.errors
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from support.fake_keyring import FakeKeyring, fake_keyring, no_keyring
from support.own_log import own_messages

from authstate import AuthEngine, AuthState
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import SERVICE, AutoStore, KeyringStore, account_of_home
from authstate.adapters.stores.keyring_entry import KeyringEntry, NoKeyring
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreBusy, StoreUnavailable, StoreUnreadable
from authstate.engine.ports import CredentialStore
from authstate.testing import FakeAuthority, ManualClock, make_tokens

__all__ = ["fake_keyring", "no_keyring"]

KEY, OTHER = ApiKey.parse("sk-canary-key"), ApiKey.parse("sk-canary-other")


async def save(store: CredentialStore, credentials: Credentials) -> None:
    async with store.locked() as held:
        await held.save(credentials)


def entry_of(backend: FakeKeyring, home: Path) -> str | None:
    return backend.entries.get((SERVICE, account_of_home(home)))


def test_the_account_is_the_digest_of_the_path_without_links(tmp_path: Path) -> None:
    assert account_of_home("/") == "cli|8a5edab282632443"
    (tmp_path / "link").symlink_to(tmp_path)
    assert account_of_home(tmp_path / "link") == account_of_home(tmp_path)


async def test_a_save_writes_the_compact_record_and_removes_the_file(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    await save(AuthJsonStore(tmp_path), OTHER)
    store = KeyringStore(tmp_path)
    assert await store.load() is None
    await save(store, KEY)
    assert entry_of(fake_keyring, tmp_path) == '{"auth_mode":"apikey","OPENAI_API_KEY":"sk-canary-key"}'
    assert os.listdir(tmp_path) == ["auth.json.authstate.lock"]
    assert store.describe() == f'the keyring entry "Codex Auth", account "{account_of_home(tmp_path)}"'


async def test_unknown_members_are_kept(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    name = (SERVICE, account_of_home(tmp_path))
    fake_keyring.entries[name] = '{"OPENAI_API_KEY":"sk-old","later":[1]}'
    await save(KeyringStore(tmp_path), KEY)
    assert json.loads(fake_keyring.entries[name])["later"] == [1]
    fake_keyring.entries[name] = '{"OPENAI_API_KEY":"sk-o'
    with pytest.raises(StoreUnreadable, match="not valid JSON"):
        await KeyringStore(tmp_path).load()
    await save(KeyringStore(tmp_path), KEY)
    assert await KeyringStore(tmp_path).load() == KEY


async def test_a_logout_removes_both_places(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    store = KeyringStore(tmp_path)
    await save(store, KEY)
    await save(AuthJsonStore(tmp_path), OTHER)
    async with store.locked() as held:
        await held.delete()
    assert fake_keyring.entries == {}
    assert os.listdir(tmp_path) == ["auth.json.authstate.lock"]


async def test_the_file_store_and_the_keyring_store_share_the_lock(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    async with AuthJsonStore(tmp_path).locked():
        with pytest.raises(StoreBusy, match=r"auth\.json\.authstate\.lock is held by another part of this process"):
            await KeyringStore(tmp_path, lock_timeout=0).locked().__aenter__()
    await save(KeyringStore(tmp_path), KEY)
    assert entry_of(fake_keyring, tmp_path)


async def test_a_file_that_cannot_be_removed_is_a_warning(
    fake_keyring: FakeKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "auth.json").mkdir()
    await save(KeyringStore(tmp_path), KEY)
    assert await KeyringStore(tmp_path).load() == KEY
    assert "an older copy is left" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
@pytest.mark.parametrize("leads_to", ["device", "notes"])
async def test_what_holds_no_login_is_no_older_copy(
    leads_to: str, fake_keyring: FakeKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """auth.json may lead to /dev/null, so that no file holds a login."""
    home, notes, pipe = tmp_path / "home", tmp_path / "notes", tmp_path / "pipe"
    home.mkdir()
    notes.write_text("precious")
    os.mkfifo(pipe)  # a test that fails must not remove the real device
    (home / "auth.json").symlink_to(pipe if leads_to == "device" else notes)
    store = KeyringStore(home)
    await save(store, KEY)
    async with store.locked() as held:
        await held.delete()
    assert fake_keyring.entries == {} and own_messages(caplog) == []
    assert notes.read_text() == "precious" and pipe.is_fifo()


async def test_a_locked_or_small_keyring_is_found_before_a_token_is_spent(
    fake_keyring: FakeKeyring, tmp_path: Path
) -> None:
    tokens = make_tokens(expires_in=-60.0)
    issuer = FakeAuthority(tokens)
    await save(KeyringStore(tmp_path), tokens)
    before = dict(fake_keyring.entries)
    async with AuthEngine(KeyringStore(tmp_path), issuer) as engine:
        fake_keyring.largest = 3000
        with pytest.raises(StoreUnavailable, match=r"cannot write the keyring entry .*refused") as caught:
            await engine.refresh()
        assert "  " not in str(caught.value), "the backend's own text is left out"
        fake_keyring.is_locked = True
        with pytest.raises(StoreUnavailable, match="locked: unlock it"):
            await engine.refresh()
        fake_keyring.is_locked, fake_keyring.largest = False, 1 << 20
        assert issuer.sent == []
        assert fake_keyring.entries == before
        await engine.refresh()
        assert engine.session.state is AuthState.CHATGPT
    assert list(fake_keyring.entries) == list(before), "nothing is left of what was tried out"


@pytest.mark.usefixtures("no_keyring")
async def test_no_keyring_says_what_to_do(tmp_path: Path) -> None:
    store = KeyringStore(tmp_path)
    with pytest.raises(NoKeyring, match=r'Secret Service .* or set cli_auth_credentials_store = "file"'):
        await store.load()
    async with AuthEngine(store, FakeAuthority()) as engine:
        assert isinstance(engine.store_fault, NoKeyring)
        with pytest.raises(NoKeyring):
            await engine.use_api_key(KEY)
        assert engine.session.state is AuthState.LOGGED_OUT


async def test_a_keyring_that_forgets_everything_counts_as_none(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    keyring.set_keyring(null.Keyring())
    with pytest.raises(NoKeyring):
        await save(KeyringStore(tmp_path), KEY)
    assert fake_keyring.calls == []


class Failing(KeyringBackend):
    """A keyring whose every call raises."""

    priority = 9.0  # pyright: ignore[reportAssignmentType] - keyring reads it from the class

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str) -> None:
        raise self.error


class TooLarge(Exception):
    """What pywin32 raises."""

    winerror = 1783


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionRefusedError(), "cannot be reached"),
        (keyring.errors.InitError("sk-canary"), "cannot be reached"),
        (TooLarge(), "too large for this keyring"),
        (ValueError("sk-canary"), r"refused \(ValueError\)"),
    ],
)
async def test_each_fault_says_what_to_do_and_holds_no_secret(
    fake_keyring: FakeKeyring, tmp_path: Path, error: Exception, message: str
) -> None:
    keyring.set_keyring(Failing(error))
    with pytest.raises(StoreUnavailable, match=message) as caught:
        await KeyringStore(tmp_path).load()
    assert "canary" not in str(caught.value)
    assert "Codex Auth" in str(caught.value)


async def test_a_keyring_that_does_not_answer_is_given_up_on(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    clock = ManualClock()
    store = KeyringStore(tmp_path, clock=clock, call_timeout=30.0)
    fake_keyring.gate.clear()
    for _ in range(4):
        load = asyncio.ensure_future(store.load())
        await clock.until_asleep()
        assert await asyncio.to_thread(fake_keyring.arrived.wait, 60), "its thread may come late"
        fake_keyring.arrived.clear()
        clock.advance(30.0)
        with pytest.raises(StoreUnavailable, match=r"not answered within 30 s .* asking for its password"):
            await load
    with pytest.raises(StoreUnavailable, match="not answered"):
        await store.load()  # no thread more for a keyring that is stuck
    assert len(fake_keyring.calls) == 4
    fake_keyring.gate.set()
    for thread in [one for one in threading.enumerate() if one.name == "authstate-keyring"]:
        await asyncio.to_thread(thread.join, 30)
    assert await asyncio.wait_for(KeyringStore(tmp_path).load(), 30) is None


async def test_a_write_that_comes_late_keeps_the_lock_until_then(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    """Else it could undo what another process stored in the meantime."""
    clock = ManualClock()
    store = KeyringStore(tmp_path, clock=clock, call_timeout=30.0)
    async with store.locked() as held:
        assert await held.load() is None
        fake_keyring.gate.clear()
        saving = asyncio.ensure_future(store.change(lambda: store.entry.write('{"OPENAI_API_KEY":"sk-1"}')))
        await clock.until_asleep()
        clock.advance(30.0)
        with pytest.raises(StoreUnavailable, match="not answered"):
            await saving
    with pytest.raises(StoreBusy, match="another part of this process"):
        await AuthJsonStore(tmp_path, lock_timeout=0).locked().__aenter__()
    fake_keyring.gate.set()
    await save(KeyringStore(tmp_path), KEY)
    assert await KeyringStore(tmp_path).load() == KEY


@pytest.mark.parametrize("call", ["set", "delete"])
async def test_a_change_that_is_cancelled_ends_first_and_the_cancellation_comes_then(
    call: str, fake_keyring: FakeKeyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, enter, after = KeyringStore(tmp_path), fake_keyring._enter, asyncio.Event()
    await save(store, OTHER)
    arrived = threading.Event()

    def enter_and_wait_at_the_change(name: str) -> None:
        if name == call:
            fake_keyring.gate.clear()
            arrived.set()
        enter(name)

    monkeypatch.setattr(fake_keyring, "_enter", enter_and_wait_at_the_change)

    async def sign_in_or_out() -> None:
        async with store.locked() as held:
            await (held.save(KEY) if call == "set" else held.delete())
            after.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(sign_in_or_out())
    assert await asyncio.to_thread(arrived.wait, 30)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    fake_keyring.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert after.is_set()
    monkeypatch.undo()
    assert await store.load() == (KEY if call == "set" else None)


async def test_auto_prefers_the_keyring_and_empties_the_file(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    await save(AuthJsonStore(tmp_path), OTHER)
    store = AutoStore(tmp_path)
    assert await store.load() == OTHER
    assert store.describe() == str(tmp_path / "auth.json")
    await save(store, KEY)
    assert store.describe().startswith("the keyring entry")
    assert not (tmp_path / "auth.json").exists()
    assert await store.load() == KEY
    assert entry_of(fake_keyring, tmp_path)


@pytest.mark.usefixtures("no_keyring")
async def test_auto_without_a_keyring_is_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = AutoStore(tmp_path)
    assert await store.load() is None
    await save(store, KEY)
    assert store.describe() == str(tmp_path / "auth.json")
    assert await AuthJsonStore(tmp_path).load() == KEY
    async with store.locked() as held:
        await held.delete()
    assert await store.load() is None
    assert own_messages(caplog) == []


async def test_auto_waits_for_the_keyring_that_holds_the_login(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    """A keyring that is gone for a moment is no logout, and takes no logout: its entry would come back later."""
    store, tokens = AutoStore(tmp_path), make_tokens()
    await save(store, tokens)
    async with AuthEngine(store, FakeAuthority()) as engine:
        keyring.set_keyring(fail.Keyring())
        assert (await engine.follow()).credentials == tokens
        with pytest.raises(NoKeyring):
            await store.load()
        with pytest.raises(NoKeyring):
            await engine.log_out()
        keyring.set_keyring(fake_keyring)
        assert await store.load() == tokens
        await engine.log_out()
        keyring.set_keyring(fail.Keyring())
        assert await store.load() is None
        await save(store, KEY)
        assert await store.load() == KEY
        async with store.locked() as held:
            await held.delete()
        assert await store.load() is None
        keyring.set_keyring(fake_keyring)


async def test_auto_with_a_locked_keyring_uses_the_file_and_says_so(
    fake_keyring: FakeKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, old, new = AutoStore(tmp_path), make_tokens(now=1_800_000_000.0), make_tokens(now=1_800_000_100.0)
    await save(store, old)
    fake_keyring.is_locked = True
    with pytest.raises(StoreUnavailable, match="locked: unlock it"):
        await store.load()
    await save(store, new)
    assert "the keyring could not take it" in caplog.text
    assert await store.load() == new
    with pytest.raises(StoreUnavailable, match=r"cannot remove .* locked"):  # its entry would come back later
        async with store.locked() as held:
            await held.delete()
    assert await store.load() == new
    fake_keyring.is_locked = False
    assert await store.load() == new, "the keyring's is older: its refresh token may be spent"
    await save(store, new)
    assert not (tmp_path / "auth.json").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (make_tokens(now=1_800_000_000.0), KEY),
        (make_tokens(now=1_800_000_000.0), make_tokens(now=1_700_000_000.0)),  # the clock was set back meanwhile
        (KEY, OTHER),
        (KEY, make_tokens(now=1_800_000_000.0)),
    ],
)
async def test_auto_knows_what_was_stored_last_whatever_it_is(
    fake_keyring: FakeKeyring, tmp_path: Path, old: Credentials, new: Credentials
) -> None:
    store = AutoStore(tmp_path)
    await save(store, old)
    fake_keyring.is_locked = True
    await save(store, new)
    fake_keyring.is_locked = False
    assert await store.load() == new
    assert await AutoStore(tmp_path).load() == new


async def test_auto_knows_a_copy_that_could_not_be_removed(fake_keyring: FakeKeyring, tmp_path: Path) -> None:
    store, old, new = AutoStore(tmp_path), make_tokens(now=1_800_000_000.0), make_tokens(now=1_700_000_000.0)
    await save(AuthJsonStore(tmp_path), old)
    copy = (tmp_path / "auth.json").read_bytes()
    await save(store, new)
    (tmp_path / "auth.json").write_bytes(copy)
    assert await store.load() == new


async def test_auto_ignores_a_bad_file_beside_a_good_entry(
    fake_keyring: FakeKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = AutoStore(tmp_path)
    await save(store, KEY)
    (tmp_path / "auth.json").write_text("[]")
    assert await store.load() == KEY
    assert "cannot be read" in caplog.text
    fake_keyring.entries.clear()
    with pytest.raises(StoreUnreadable):
        await store.load()


async def test_a_refresh_goes_to_the_file_when_the_keyring_locks_in_between(
    fake_keyring: FakeKeyring, tmp_path: Path
) -> None:
    tokens = make_tokens(expires_in=-60.0)
    issuer = FakeAuthority(tokens)
    store = AutoStore(tmp_path)
    await save(store, tokens)
    async with AuthEngine(store, issuer) as engine:
        issuer.hold()
        refresh = asyncio.ensure_future(engine.refresh())
        await issuer.asked()
        fake_keyring.is_locked = True
        issuer.release()
        await refresh
        assert await AuthJsonStore(tmp_path).load() is not None
        assert engine.session.generation == 2
    assert len(issuer.sent) == 1


def test_an_entry_in_two_keyrings_is_removed_from_both() -> None:
    """The `keyring` library chains what a machine offers, and removes from the first alone."""
    first, second = FakeKeyring(), FakeKeyring()
    entry = KeyringEntry("service", "account")

    class Chain(keyring.backends.chainer.ChainerBackend):
        backends = (first, second)  # pyright: ignore[reportAssignmentType] - keyring reads it from the class

    before = keyring.get_keyring()
    keyring.set_keyring(Chain())
    try:
        second.entries["service", "account"] = "old"
        assert entry.read() == "old"
        entry.write("new")
        assert (entry.read(), second.entries["service", "account"]) == ("new", "old")
        entry.remove()
        assert entry.read() is None
        assert entry.changed_at() is None
    finally:
        keyring.set_keyring(before)


async def test_a_login_that_was_in_the_keyring_is_not_gone_when_the_keyring_is(
    fake_keyring: FakeKeyring, tmp_path: Path
) -> None:
    """Whoever looks again after the keyring ended must not be signed out by that."""
    await save(KeyringStore(tmp_path), KEY)
    store, other = AutoStore(tmp_path), AutoStore(tmp_path)
    assert await store.load() == KEY
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(NoKeyring):
        await store.load()
    assert await other.load() is None, "it never found anything there"
    keyring.set_keyring(fake_keyring)
    assert await store.load() == KEY
    fake_keyring.entries.clear()
    assert await store.load() is None
    keyring.set_keyring(fail.Keyring())
    assert await store.load() is None
