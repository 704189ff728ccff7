"""Stores a login in the vault that codex has stored somewhere else: in the home of an account (account_home.py).

It goes to that account if nobody else is signed in there, else to the account that the same person has already, else
to a new one. So nobody's login is replaced by somebody else's or by an older one, and no login is stored twice.
"""

from authstate.adapters.vault.account_states import find_login, is_same_login
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.adoption import copy_claim
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, StaticCredentials
from authstate.engine.model.jwt_claims import auth_time_of
from authstate.engine.ports import CredentialStore

_OVER = (RefreshClaimState.SPENT, RefreshClaimState.DEAD)


async def store_codex_login(
    vault: Vault, account: str, login: StaticCredentials | ChatgptTokens, source: CredentialStore
) -> AccountEntry:
    """Store a login, and return the account that has it now.

    Args:
        vault: the accounts.
        account: the id of the account in whose home codex signed in.
        login: what codex stored.
        source: where. It has the refresh claims, and its lock is held.

    Raises StoreUnavailable: it could not be stored. What the vault has stays as it is.
    """
    for entry in (vault.accounts().find(account), await find_login(vault, login)):
        if entry is not None and await _is_stored_in(vault, entry, login, source):
            return entry
    entry = vault.add(wish=wished_name(login))  # also if somebody else signed in to the other one at this moment
    await _is_stored_in(vault, entry, login, source)
    return entry


async def _is_stored_in(
    vault: Vault, entry: AccountEntry, login: StaticCredentials | ChatgptTokens, source: CredentialStore
) -> bool:
    """Store a login, unless somebody else is signed in to this account. Return whether nobody else is.

    A login of the same person that is over, or older, does not replace what the account has.
    """
    store = vault.store(entry.id)
    async with store.locked() as held:
        stored = await held.load()
        if stored is not None and not is_same_login(stored, login):
            return False
        if isinstance(login, ChatgptTokens):
            if isinstance(stored, ChatgptTokens) and (await _is_over(login, store, source) or _is_older(login, stored)):
                return True
            await copy_claim(source, held, login)  # it may be in doubt
        await held.save(login)
        return True


async def _is_over(login: ChatgptTokens, *stores: CredentialStore) -> bool:
    """Whether the refresh token of a login is spent or dead: a killed process left it, or it was signed out."""
    claims = [await store.claim_on(fingerprint_of(login.refresh_token)) for store in stores]
    return any(claim is not None and claim.state in _OVER for claim in claims)


def _is_older(login: ChatgptTokens, stored: ChatgptTokens) -> bool:
    """Whether the stored login of the same person is the one to keep: a later sign-in, or the only one that lasts."""
    if login.can_refresh != stored.can_refresh:
        return stored.can_refresh
    times = (auth_time_of(login.id_token.reveal()), auth_time_of(stored.id_token.reveal()))
    if None in times or times[0] == times[1]:
        times = (login.last_refresh, stored.last_refresh)
    return times[0] is not None and times[1] is not None and times[0] < times[1]


def wished_name(login: StaticCredentials | ChatgptTokens) -> str:
    """Return what the nickname of a new account is made of."""
    if isinstance(login, ApiKey):
        return "api-key"
    return (login.account.email if login.account is not None else None) or "account"
