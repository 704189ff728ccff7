"""Whose a refresh token is that a client presents, by the indexes of a database. See broker/token_owners.py."""

from authstate.adapters.broker.token_owners import TokenOwner, leads_to
from authstate.adapters.postgres import lease_statements
from authstate.adapters.postgres.database import PostgresDatabase
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import strip_tracebacks_of_methods
from authstate.engine.model.secret import Secret

_MOST_REMEMBERED = 10_000


@strip_tracebacks_of_methods
class DatabaseOwners:
    """A `FindsOwners`. A token that no account has or had costs one statement.

    Args:
        database: has the accounts.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._seen: dict[str, None] = {}  # fingerprints of tokens that have an owner, the newest last

    def remember(self, account: str, stored: ChatgptTokens) -> TokenOwner:
        """See `FindsOwners`."""
        self._note(fingerprint_of(stored.refresh_token))
        return TokenOwner(account, stored.account.digest)

    async def known(self, refresh_token: Secret) -> TokenOwner | None:
        """See `FindsOwners`. Raises StoreUnavailable."""
        return await self.find(refresh_token) if fingerprint_of(refresh_token) in self._seen else None

    async def find(self, refresh_token: Secret) -> TokenOwner | None:
        """See `FindsOwners`. An account that has the token now comes before one that had it."""
        fingerprint = fingerprint_of(refresh_token)
        rows = await self._database.fetch_all(lease_statements.OWNERS, {"fingerprint": fingerprint})
        for account in dict.fromkeys(row["account"] for row in sorted(rows, key=lambda row: not row["is_current"])):
            store = self._database.store(account)
            stored = await store.load()
            if isinstance(stored, ChatgptTokens) and await leads_to(store, fingerprint, stored):
                self._note(fingerprint)
                return TokenOwner(account, stored.account.digest)
        self._seen.pop(fingerprint, None)
        return None

    def _note(self, fingerprint: str) -> None:
        self._seen.pop(fingerprint, None)
        self._seen[fingerprint] = None
        if len(self._seen) > _MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]
