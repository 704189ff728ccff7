"""Which of several stored logins counts: of the items of the Secret Service, and of the keyring and the file."""

from collections.abc import Callable
from itertools import count
from typing import Any

import keyring
import msgspec
import pytest

from authstate.adapters.stores.home_lock import SaveRecord
from authstate.adapters.stores.keyring import _is_newer
from authstate.adapters.stores.keyring_entry import KeyringEntry, _Items
from authstate.adapters.stores.last_change import digest_of
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import make_tokens

ENTRY = KeyringEntry("Codex Auth", "cli|0123")
QUERY = {"service": ENTRY.service, "username": ENTRY.account}
_paths = count(1)


class Item:
    def __init__(self, home: "Service", secret: bytes, modified: int, **attributes: str) -> None:
        self.home, self.secret, self.modified, self.attributes = home, secret, modified, QUERY | attributes
        self.item_path = f"/item/{next(_paths)}"
        self.is_unlocked = False

    def get_secret(self) -> bytes:
        assert self.is_unlocked
        return self.secret

    def set_secret(self, secret: bytes) -> None:
        self.secret = secret

    def get_attributes(self) -> dict[str, str]:
        return self.attributes

    def get_modified(self) -> int:
        return self.modified

    def delete(self) -> None:
        self.home.items.remove(self)


class Service:
    """The collection, its connection and the backend of `keyring` in one."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.made: list[tuple[str, dict[str, str], bool]] = []
        self.closed = 0

    @property
    def connection(self) -> "Service":
        return self

    def close(self) -> None:
        self.closed += 1

    def get_preferred_collection(self) -> "Service":
        return self

    def search_items(self, query: dict[str, str]) -> list[Item]:
        return [item for item in self.items if query.items() <= item.attributes.items()]

    def unlock(self, item: Item) -> None:
        item.is_unlocked = True

    def create_item(self, label: str, attributes: dict[str, str], secret: bytes, replace: bool) -> None:
        self.made.append((label, attributes, replace))
        self.items.append(Item(self, secret, 0, **attributes))

    def add(self, secret: bytes, modified: int, **attributes: str) -> Item:
        self.items.append(Item(self, secret, modified, **attributes))
        return self.items[-1]


@pytest.fixture
def service() -> Service:
    return Service()


def items(service: Service) -> Any:
    return _Items(service, ENTRY)


def test_where_there_is_none_one_is_made_as_codex_makes_it(service: Service) -> None:
    assert items(service).read() is None
    assert items(service).changed_at() is None
    items(service).write("new")
    attributes = QUERY | {"target": "default", "application": "authstate"}
    assert service.made == [("cli|0123@Codex Auth", attributes, True)]
    assert items(service).read() == "new"
    assert service.closed == 4


def test_the_item_that_was_changed_last_is_read(service: Service) -> None:
    service.add(b"old", 5)
    service.add(b"new", 7)
    service.add(b"older", 3)
    assert items(service).read() == "new"
    assert items(service).changed_at() == 7.0


@pytest.mark.parametrize("target", ["default", "other"])
def test_a_write_leaves_one_item_that_of_codex_if_there_is_one(target: str, service: Service) -> None:
    codex, newest = service.add(b"a", 5, target=target), service.add(b"b", 7, target="other")
    other = service.add(b"c", 6, username="somebody else")
    items(service).write("new")
    kept = codex if target == "default" else newest
    assert service.items == [kept, other]
    assert (kept.secret, other.secret) == (b"new", b"c")
    assert service.made == []
    items(service).remove()
    assert service.items == [other]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Service:
    """The Secret Service is the keyring of this machine."""

    class Keyring(Service):
        __module__ = "keyring.backends.SecretService"

    made = Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: made)
    return made


def test_an_entry_of_the_secret_service_is_an_item(chosen: Service) -> None:
    ENTRY.write("new")
    [item] = chosen.items
    item.modified = 9
    assert (ENTRY.read(), ENTRY.changed_at()) == ("new", 9.0)
    ENTRY.remove()
    assert chosen.items == []


@pytest.mark.parametrize("call", [ENTRY.read, ENTRY.changed_at, ENTRY.remove, lambda: ENTRY.write("x")])
def test_what_the_secret_service_raises_becomes_an_error_for_a_person(
    call: Callable[[], object], chosen: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Service) -> Service:
        raise RuntimeError("canary: what a backend says may hold anything")

    monkeypatch.setattr(Service, "get_preferred_collection", broken)
    with pytest.raises(StoreUnavailable, match="the keyring entry") as fault:
        call()
    assert "canary" not in str(fault.value)


# The keyring and the file

FILE, ENTRY_KEY, OTHER = (ApiKey.parse(f"sk-{name}") for name in ("file", "entry", "other"))
TOKENS = make_tokens()


def refreshed(at: float | None) -> Credentials:
    return msgspec.structs.replace(TOKENS, last_refresh=at)


NEWER = msgspec.structs.replace(make_tokens(), last_refresh=7.0)


def marks(*saved: Credentials) -> list[SaveRecord]:
    return [SaveRecord(digest_of(credentials), 5.0, 7) for credentials in saved]


@pytest.mark.parametrize(
    ("file", "entry", "saved", "is_newer"),
    [
        (None, None, [], False),
        (FILE, None, [], True),
        (None, ENTRY_KEY, [], False),
        (FILE, ENTRY_KEY, [], False),
        (FILE, ENTRY_KEY, [ENTRY_KEY, FILE], True),
        (FILE, ENTRY_KEY, [FILE, ENTRY_KEY], False),
        (FILE, ENTRY_KEY, [FILE, OTHER], False),
        (FILE, ENTRY_KEY, [ENTRY_KEY], False),
        (refreshed(7), refreshed(5), [], True),
        (refreshed(5), refreshed(7), [], False),
        (refreshed(5), refreshed(5), [], False),
        (NEWER, refreshed(5), [refreshed(5)], True),
        (refreshed(0.5), refreshed(None), [], True),
        (refreshed(None), refreshed(0.5), [], False),
        (refreshed(7), ENTRY_KEY, [], False),
    ],
)
def test_whether_the_login_of_the_file_is_newer_than_that_of_the_keyring(
    file: Credentials | None, entry: Credentials | None, saved: list[Credentials], is_newer: bool
) -> None:
    assert _is_newer(file, entry, marks(*saved)) is is_newer
