"""Whose a refresh token is that a client presents: the account that has it, or whose login it was refreshed to.

A client may hold a token that was replaced since, because it loaded the login before. It still gets access tokens, but
only while refreshes lead from its token to the one that is stored: each refresh claim names the token that came
instead. When somebody has signed out, nothing leads from the old tokens to a new login, even one of the same person.

Two gaps are filled, by the time of the sign-in in the id token (`auth_time`). A process that dies between storing an
answer and settling its claim leaves a claim in doubt: its token counts if nobody signed in since it was sent. And a
program that makes no claim, such as codex, may replace a token: what this process has seen in an account still counts
if it is of the same sign-in. For an issuer that does not tell that time, the first counts if the stored token was
issued within two minutes, and the second until this process sees that the account was signed out.
"""

import msgspec

from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import MAX_CLAIMS, RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.jwt_claims import auth_time_of
from authstate.engine.model.secret import Secret
from authstate.engine.ports import CredentialStore

_MOST_REMEMBERED = 1000
_LONGEST_REFRESH = 120.0  # seconds, with all its tries


class TokenOwner(msgspec.Struct, frozen=True):
    """Whose a refresh token is, or was."""

    account: str
    """The id of the account in the vault."""
    login: str
    """`Account.digest` of who was signed in with it."""


class _Seen(msgspec.Struct, frozen=True):
    """A login that this process has seen in an account."""

    owner: TokenOwner
    signed_in_at: float | None
    """`auth_time` of its id token: a refresh does not change it."""

    @classmethod
    def of(cls, account: str, stored: ChatgptTokens) -> "_Seen":
        return cls(TokenOwner(account, stored.account.digest), auth_time_of(stored.id_token.reveal()))


class TokenOwners:
    """Finds the owners of refresh tokens.

    Args:
        vault: the accounts.
        leases: of the vault, for what codex has stored in the home of an account.
    """

    def __init__(self, vault: Vault, leases: LeaseBook) -> None:
        self._vault = vault
        self._leases = leases
        self._seen: dict[str, _Seen] = {}  # by the fingerprint of the refresh token

    def remember(self, account: str, stored: ChatgptTokens) -> TokenOwner:
        """Note what is stored in an account, and return whose it is."""
        fingerprint = fingerprint_of(stored.refresh_token)
        seen = self._seen.pop(fingerprint, None)
        if seen is None or seen.owner != TokenOwner(account, stored.account.digest):
            seen = _Seen.of(account, stored)
        self._seen[fingerprint] = seen
        if len(self._seen) > _MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return seen.owner

    def forget(self, account: str) -> None:
        """Forget what was seen in an account: it was signed out."""
        for fingerprint in [name for name, seen in self._seen.items() if seen.owner.account == account]:
            del self._seen[fingerprint]

    async def known(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of a token that this process has seen in an account. It looks into that account only.

        Raises StoreUnavailable: the store cannot be read now.
        """
        seen = self._seen.get(fingerprint_of(refresh_token))
        if seen is None or self._vault.accounts().find(seen.owner.account) is None:
            return None
        return (await self._in_account(seen.owner.account, refresh_token))[0]

    async def find(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of any token. It looks into every account.

        What codex has stored in the home of an account is moved into the vault if it is this token.

        Raises StoreUnavailable: the list of accounts, or a store that may have it, cannot be read now.
        """
        entries = self._vault.accounts().entries
        fault: StoreUnavailable | None = None
        found: TokenOwner | None = None
        for entry in entries:
            try:
                owner, is_current = await self._in_account(entry.id, refresh_token)
            except StoreUnavailable as unavailable:
                fault = unavailable
                continue
            if is_current:
                return owner
            found = found or owner
        for entry in entries:
            if found is None and entry.id != HOME_ACCOUNT:
                found = await self._in_home_of(entry.id, refresh_token)
        if found is None and fault is not None:
            raise fault.without_traceback()
        return found

    async def _in_account(self, account: str, refresh_token: Secret) -> tuple[TokenOwner | None, bool]:
        """Return the owner of a token if it is this account, and whether the account has this very token now."""
        store = self._vault.store(account)
        stored = await store.load()
        if not isinstance(stored, ChatgptTokens):
            self.forget(account)
            return None, False
        owner = self.remember(account, stored)
        if stored.refresh_token == refresh_token:
            return owner, True
        fingerprint = fingerprint_of(refresh_token)
        if await leads_to(store, fingerprint, stored) or self._seen.get(fingerprint) == _Seen.of(account, stored):
            return owner, False
        return None, False

    async def _in_home_of(self, account: str, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of a token that codex stored in the home of an account."""
        home = AccountHome(self._vault, self._leases, account)
        if not await home.has_login(refresh_token):
            return None
        taken = await home.take_over()
        return None if taken is None else (await self._in_account(taken.id, refresh_token))[0]


async def leads_to(store: CredentialStore, fingerprint: str, stored: ChatgptTokens) -> bool:
    """Whether refreshes lead from a refresh token to the one that is stored.

    Args:
        store: has the claims.
        fingerprint: of the token.
        stored: what the store has now.

    Raises StoreUnavailable: the claims cannot be read now.
    """
    wanted = fingerprint_of(stored.refresh_token)
    for _ in range(MAX_CLAIMS + 1):
        if fingerprint == wanted:
            return True
        claim = await store.claim_on(fingerprint)
        if claim is None or claim.account != stored.account.digest:
            return False
        if claim.is_in_doubt:
            return _is_answer(claim, stored)
        if claim.state is not RefreshClaimState.SPENT or not claim.successor:
            return False
        fingerprint = claim.successor
    return False


def _is_answer(claim: RefreshClaim, stored: ChatgptTokens) -> bool:
    """Whether the stored tokens came for this token, which was sent by a process that died before it noted that.

    They did not if somebody signed in since. Without `auth_time`, tokens that came soon after count.
    """
    signed_in_at = auth_time_of(stored.id_token.reveal())
    if signed_in_at is not None:
        return signed_in_at <= claim.at
    return stored.last_refresh is not None and 0 <= stored.last_refresh - claim.at <= _LONGEST_REFRESH
