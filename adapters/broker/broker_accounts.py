"""The accounts of a vault, each with an engine that is opened when it is needed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.engine.pool import EnginePool

_MOST_REMEMBERED = 1000


class TokenOwner(msgspec.Struct, frozen=True):
    """Whose a refresh token is, or was."""

    account: str
    """The id of the account in the vault."""
    login: str
    """`Account.digest` of who was signed in with it."""


class BrokerAccounts:
    """Finds accounts and lends their engines.

    Args:
        vault: the accounts.
        pool: an engine for each id.
    """

    def __init__(self, vault: Vault, pool: EnginePool[str]) -> None:
        self.vault = vault
        self.pool = pool
        self._remembered: dict[str, TokenOwner] = {}
        """By the fingerprint of a refresh token that was stored: whose it was."""

    @asynccontextmanager
    async def engine(self, account: str) -> AsyncIterator[AuthEngine]:
        """Lend the engine of an id, in step with what other processes have stored.

        Raises:
            ConfigError: the vault has no such account.
            StoreUnavailable: the list of accounts cannot be read.
        """
        self.vault.accounts().named(account)
        async with self.pool.engine(account) as engine:
            await engine.follow(adopt=True)
            yield engine

    def remember(self, account: str, stored: ChatgptTokens) -> TokenOwner:
        """Note what was stored in an account, and return whose it is.

        A program that takes no lock and makes no claim, such as codex, may replace it. A client that loaded it before
        still presents it then.
        """
        owner = TokenOwner(account, stored.account.digest)
        fingerprint = fingerprint_of(stored.refresh_token)
        self._remembered.pop(fingerprint, None)
        self._remembered[fingerprint] = owner
        if len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return owner

    async def owner_of(self, refresh_token: Secret) -> TokenOwner | None:
        """Return whose a refresh token is, or was. None if nobody's who is signed in to one of the accounts now.

        Raises StoreUnavailable: the list of accounts, or a store that may have it, cannot be read now.
        """
        fingerprint = fingerprint_of(refresh_token)
        fault: StoreUnavailable | None = None
        found: TokenOwner | None = None
        for entry in self.vault.accounts().entries:
            store = self.vault.store(entry.id)
            try:
                stored = await store.load()
                claim = await store.claim_on(fingerprint)
            except StoreUnavailable as unavailable:
                fault = unavailable
                continue
            if not isinstance(stored, ChatgptTokens):
                continue
            owner = self.remember(entry.id, stored)
            if stored.refresh_token == refresh_token:
                return owner
            is_claimed = claim is not None and claim.account == owner.login
            if is_claimed or self._remembered.get(fingerprint) == owner:
                found = found or owner
        if found is None and fault is not None:
            raise fault.without_traceback()
        return found
