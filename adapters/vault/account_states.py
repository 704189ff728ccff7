"""What is stored in each account of a vault, for `authstate account`. It reads the stores and refreshes nothing."""

import time
from enum import StrEnum

import msgspec

from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaimState, fingerprint_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable
from authstate.engine.model.events import AuthMode
from authstate.engine.ports import CredentialStore

_OVER = (RefreshClaimState.DEAD, RefreshClaimState.SPENT)


class AccountState(StrEnum):
    """Whether an account can be used: the states of the engine (`AuthState`), as far as they can be stored, and two
    more for what cannot be read.
    """

    CHATGPT = "chatgpt"
    API_KEY = "api_key"
    """An API key or a personal access token, as `auth_mode` says."""
    SIGNED_OUT = "logged_out"
    """Nobody is signed in."""
    DEAD = "refresh_dead"
    """The login can no longer be refreshed: sign in again."""
    OTHER_LOGIN = "other_login"
    """A login of a kind that authstate does not manage. codex uses it by itself."""
    UNREADABLE = "unreadable"
    """The store cannot be read now, or is damaged. The message says why."""


class StoredAccount(msgspec.Struct, frozen=True):
    """One account, as it is stored. It holds no secret."""

    entry: AccountEntry
    is_selected: bool
    store: str
    """The place of its login."""
    state: AccountState
    auth_mode: AuthMode | None = None
    account: Account | None = None
    expires_at: float | None = None
    """When the access token expires, in seconds since the epoch."""
    store_fault: str | None = None
    """Why it cannot be read."""

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a login that can be used."""
        return self.state in (AccountState.CHATGPT, AccountState.API_KEY)


async def read_accounts(vault: Vault) -> list[StoredAccount]:
    """Read all accounts of a vault, the home's first.

    Raises StoreUnavailable, StoreUnreadable: the list of accounts cannot be read. A login that cannot be read is an
    account in the state UNREADABLE.
    """
    return [await read_account(vault, entry.id) for entry in vault.accounts().entries]


async def read_account(vault: Vault, account: str) -> StoredAccount:
    """Read one account. Raises ConfigError: there is no such account; StoreUnavailable as `read_accounts`."""
    accounts = vault.accounts()
    entry = accounts.named(account)
    store = vault.store(entry.id)
    is_selected = accounts.selected == entry.id
    try:
        stored = await store.load()
        is_dead = await _is_dead(store, stored)
    except StoreUnavailable as fault:
        is_other = isinstance(fault, StoreUnreadable) and fault.other_login is not None
        state = AccountState.OTHER_LOGIN if is_other else AccountState.UNREADABLE
        return StoredAccount(entry, is_selected, store.describe(), state, store_fault=str(fault))
    found = StoredAccount(entry, is_selected, store.describe(), AccountState.SIGNED_OUT)
    if stored is None:
        return found
    if not isinstance(stored, ChatgptTokens):
        is_key = isinstance(stored, ApiKey)
        mode = AuthMode.API_KEY if is_key else AuthMode.PERSONAL_ACCESS_TOKEN
        return msgspec.structs.replace(found, state=AccountState.API_KEY, auth_mode=mode)
    return msgspec.structs.replace(
        found,
        state=AccountState.DEAD if is_dead else AccountState.CHATGPT,
        auth_mode=AuthMode.CHATGPT,
        account=stored.account,
        expires_at=stored.expires_at,
    )


async def find_login(vault: Vault, credentials: Credentials) -> AccountEntry | None:
    """Return the account of the same person in the same workspace, or with the same API key or personal access token.

    None if there is none. Accounts that cannot be read now are left out. Raises StoreUnavailable as `read_accounts`.
    """
    for entry in vault.accounts().entries:
        try:
            stored = await vault.store(entry.id).load()
        except StoreUnavailable:
            continue
        if is_same_login(stored, credentials):
            return entry
    return None


def is_same_login(stored: Credentials | None, credentials: Credentials) -> bool:
    """Whether both are of the same person in the same workspace, or the same key or personal access token."""
    if isinstance(stored, ChatgptTokens) and isinstance(credentials, ChatgptTokens):
        return stored.account.is_same_as(credentials.account)
    if isinstance(stored, PersonalAccessToken) and isinstance(credentials, PersonalAccessToken):
        return stored.token == credentials.token
    return isinstance(stored, ApiKey) and stored == credentials


async def _is_dead(store: CredentialStore, stored: Credentials | None) -> bool:
    """Whether a login can no longer be refreshed, as far as is recorded. Raises StoreUnavailable."""
    if not isinstance(stored, ChatgptTokens):
        return False
    if not stored.can_refresh:
        return stored.expires_at is not None and stored.expires_at <= time.time()
    claim = await store.claim_on(fingerprint_of(stored.refresh_token))
    if claim is None or claim.state not in _OVER:
        return False
    newest = await store.load()  # a refresh may have ended between the two looks
    return isinstance(newest, ChatgptTokens) and newest.refresh_token == stored.refresh_token
