"""A keyring in memory for the `keyring` library. A test can lock it, delay it and limit its entries."""

import threading
from collections.abc import Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked, PasswordSetError


class FakeKeyring(KeyringBackend):
    """A keyring backend in memory.

    Attributes:
        entries: the passwords, by service and account.
        is_locked: every call fails.
        largest: the longest password that it takes, in characters.
        calls: "get", "set" or "delete" for each call.
        gate: each call waits until it is set, at most 30 seconds.
        arrived: set when a call begins.
    """

    priority = 9.0  # pyright: ignore[reportAssignmentType] - keyring reads it from the class

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False
        self.largest = 1 << 20
        self.calls: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self._enter("get")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._enter("set")
        if len(password) > self.largest:
            raise PasswordSetError(f"too long: {password}")
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._enter("delete")
        del self.entries[service, username]

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self.arrived.set()
        assert self.gate.wait(30)
        if self.is_locked:
            raise KeyringLocked("locked")


@pytest.fixture
def fake_keyring() -> Iterator[FakeKeyring]:
    """A keyring in memory, which the library uses during the test."""
    before, backend = keyring.get_keyring(), FakeKeyring()
    keyring.set_keyring(backend)
    yield backend
    backend.gate.set()
    keyring.set_keyring(before)


@pytest.fixture
def no_keyring() -> Iterator[None]:
    """No keyring: the library finds none during the test."""
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    yield
    keyring.set_keyring(before)
