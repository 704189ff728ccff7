"""Several processes on one vault, with real engines, stores and files, and what each is expected to see."""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from support.prompt_disk import without_threads

from authstate import AuthEngine, AuthState, RefreshSettings
from authstate.adapters.config import StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.testing import FakeAuthority, ManualClock, make_tokens

T = TypeVar("T")
_SETTINGS = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))

Login = tuple[str, str] | str | None
"""Whose login it is: the workspace and the user, a key, or nobody."""


def login_of(credentials: object) -> Login:
    """Whose login these credentials are."""
    if isinstance(credentials, ChatgptTokens):
        return (credentials.account.account_id or "", credentials.account.user_id or "")
    return credentials.key.reveal() if isinstance(credentials, ApiKey) else None


class LockClock:
    """The time of the world for a store. A wait for a lock takes none of it: the other processes go on, and it ends."""

    def __init__(self, clock: ManualClock) -> None:
        self.now = clock.now
        self.monotonic = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        """Let others go on."""
        await asyncio.sleep(0)


class Process:
    """A process with an engine on the vault.

    Args:
        world: where it runs.
        pinned: the account that it is told to use. None: the selected one.
    """

    def __init__(self, world: "AccountsWorld", pinned: str | None) -> None:
        self.vault = Vault(world.home, StoreMode.FILE, LockClock(world.clock))
        self.store = VaultStore(self.vault, pinned)
        self.engine = AuthEngine(self.store, world.issuer, clock=world.clock, settings=_SETTINGS)
        self.pinned = self.store.account if pinned is not None else None
        world.run(self.engine.start())

    @property
    def login(self) -> Login:
        """Whose login it uses."""
        return login_of(self.engine.session.credentials)


class AccountsWorld:
    """A home, an issuer, and the reference: whose login each account has, and which one is selected."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._no_threads = ExitStack()
        self._no_threads.enter_context(without_threads())
        in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # nothing here depends on the disk
        self._folder = tempfile.TemporaryDirectory(dir=in_memory)
        self.home = Path(self._folder.name) / "home"
        self.home.mkdir()
        self.clock = ManualClock()
        self.issuer = FakeAuthority(clock=self.clock)
        self.vault = Vault(self.home, StoreMode.FILE, LockClock(self.clock))
        self.processes: list[Process] = []
        self.names = {"home": "home"}
        """The nickname of each id."""
        self.logins: dict[str, Login] = {"home": None}
        """Whose login each id has."""
        self.selected = "home"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(asyncio.wait_for(work, 30))

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            self.run(process.engine.close())
        self._loop.close()
        self._no_threads.close()
        self._folder.cleanup()

    def open(self, pinned: str | None) -> Process:
        """Start a process."""
        process = Process(self, pinned)
        self.processes.append(process)
        return process

    def issue(self, workspace: str, user: str) -> ChatgptTokens:
        """Tokens of a new login."""
        tokens = make_tokens(
            account_id=workspace, user_id=user, email=f"{user}@example.com", expires_in=600.0, now=self.clock.now()
        )
        return self.issuer.accept(tokens)

    def expected_account(self, process: Process) -> str:
        """The id that a process uses once it has looked."""
        return process.pinned or self.selected

    def check(self) -> None:
        """Check everything that must hold at any time.

        Raises AssertionError.
        """
        fresh = Vault(self.home, StoreMode.FILE, LockClock(self.clock))
        accounts = fresh.accounts()
        assert {entry.id: entry.name for entry in accounts.entries} == self.names
        assert accounts.selected == self.selected
        stored = {account: self.run(fresh.store(account).load()) for account in self.names}
        assert {account: login_of(login) for account, login in stored.items()} == self.logins, "a login moved"
        live = [login.refresh_token.reveal() for login in stored.values() if isinstance(login, ChatgptTokens)]
        assert len(set(live)) == len(live), "a refresh token is stored twice"
        assert set(live) <= self.issuer.live, "what is stored does not work"
        assert len(set(self.issuer.sent)) == len(self.issuer.sent), "a refresh token was spent twice"
        folders = self.home / "authstate" / "accounts"
        left = {path.name for path in folders.iterdir()} if folders.exists() else set()
        assert left <= self.names.keys(), "a removed account left something behind"

    def check_process(self, process: Process) -> None:
        """Check that a process that has looked acts as the account that it should. Raises AssertionError."""
        account = self.expected_account(process)
        assert process.store.account == account
        expected = self.logins.get(account)
        assert process.login == expected, f"it acts as {process.login} instead of {expected}"
        if expected is None:
            assert process.engine.session.state is AuthState.LOGGED_OUT
