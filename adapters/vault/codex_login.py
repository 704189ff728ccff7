"""Stores a login in the vault that codex has stored somewhere else: in the home of an account (account_home.py).

It goes to that account if nobody else is signed in there, else to the account that the same person has already, else
to a new one. So nobody's login is replaced by somebody else's, and no login is stored twice.
"""

from authstate.adapters.vault.account_states import find_login, is_same_login
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.adoption import copy_claim
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, StaticCredentials
from authstate.engine.ports import CredentialStore


async def store_codex_login(
    vault: Vault, account: str, login: StaticCredentials | ChatgptTokens, source: CredentialStore
) -> AccountEntry:
    """Store a login, and return the account that has it now.

    Args:
        vault: the accounts.
        account: the id of the account in whose home codex signed in.
        login: what codex stored.
        source: where. It has the refresh claims, and its lock is held.

    Raises:
        ConfigError: the account was removed.
        StoreUnavailable: it could not be stored. What the vault has stays as it is.
    """
    entry = vault.accounts().named(account)
    if await _is_stored_in(vault, entry, login, source):
        return entry
    entry = await find_login(vault, login) or vault.add(wish=wished_name(login))
    if await _is_stored_in(vault, entry, login, source):
        return entry
    entry = vault.add(wish=wished_name(login))  # somebody else signed in to the other one at this moment
    await _is_stored_in(vault, entry, login, source)
    return entry


async def _is_stored_in(
    vault: Vault, entry: AccountEntry, login: StaticCredentials | ChatgptTokens, source: CredentialStore
) -> bool:
    """Store a login, unless somebody else is signed in to this account. Return whether the account has the login.

    Tokens that the vault has replaced since are what a killed process left behind. They are not stored again.
    """
    store = vault.store(entry.id)
    async with store.locked() as held:
        stored = await held.load()
        if stored is not None and not is_same_login(stored, login):
            return False
        if isinstance(login, ChatgptTokens):
            claim = await store.claim_on(fingerprint_of(login.refresh_token))
            if claim is not None and claim.state is RefreshClaimState.SPENT:
                return True
            await copy_claim(source, held, login)  # it may be in doubt, or dead
        await held.save(login)
        return True


def wished_name(login: StaticCredentials | ChatgptTokens) -> str:
    """Return what the nickname of a new account is made of."""
    if isinstance(login, ApiKey):
        return "api-key"
    return (login.account.email if login.account is not None else None) or "account"
