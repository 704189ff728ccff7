"""What the owner of a broker asks of it: the access token of an account, and new leases on one."""

import msgspec

from authstate.adapters.broker.broker import Broker
from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import Lease, LeaseRequest
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import NotSignedIn, strip_tracebacks
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState

DEFAULT_TTL = 8 * 3600.0
"""Seconds that a lease lasts if nothing else is said."""
LONGEST_TTL = 10 * 365 * 86_400.0
"""Seconds that a lease with an end lasts at most."""

_LEASED_LIFETIME = 600.0  # seconds: codex asks for another token in the last 300 (measured)


class AccountToken(msgspec.Struct, frozen=True):
    """A token that authorizes requests now."""

    account: AccountEntry
    store: str
    """The place of its login."""
    authorization: Authorization
    is_static: bool
    """Whether it is an API key or a personal access token, which nothing refreshes."""


class NewLease(msgspec.Struct, frozen=True):
    """A lease that was just made."""

    lease: Lease
    account: AccountEntry
    handle: LeaseHandle
    """Nobody else has it, and it is stored nowhere."""
    tokens: ChatgptTokens
    """The tokens of the account, with its refresh token: do not hand them out as they are (`home_account.leased`)."""


@strip_tracebacks
async def token_of(broker: Broker, name: str | None, min_lifetime: float = 0.0) -> AccountToken:
    """Return a token of an account.

    Args:
        broker: has the account.
        name: a nickname or an id. None: the selected account.
        min_lifetime: seconds that it should last. A token that lasts shorter is refreshed, at most once a minute. If
            the issuer's tokens are shorter than that, the newest one is returned.

    Raises:
        ConfigError: there is no such account.
        AuthError: there is no token, or not now.

    Cancelling it cancels no refresh.
    """
    found = await broker.accounts.find(name)
    async with broker.accounts.engine(found.entry.id) as engine:
        authorization = await _authorization(broker, engine, found.entry, min_lifetime)
        is_static = engine.session.state is AuthState.API_KEY
        return AccountToken(found.entry, found.store, authorization, is_static=is_static)


@strip_tracebacks
async def make_lease(broker: Broker, name: str | None, ttl: float | None = DEFAULT_TTL, label: str = "") -> NewLease:
    """Make a lease on an account.

    Args:
        broker: has the account.
        name: a nickname or an id. None: the selected account.
        ttl: seconds that it lasts. None: without an end.
        label: what its owner calls it.

    Raises:
        ConfigError: there is no such account, it has nothing to lease, the time is not positive or too long, or there
            are too many leases.
        AuthError: the account has no access token, or not now. No lease was made.

    Cancelling the caller makes no lease, and cancels no refresh.
    """
    if ttl is not None and not 0 < ttl <= LONGEST_TTL:
        raise ConfigError("the time of a lease must be more than 0 seconds and at most 10 years")
    entry = (await broker.accounts.find(name)).entry
    async with broker.accounts.engine(entry.id) as engine:
        await _authorization(broker, engine, entry, _LEASED_LIFETIME)
        tokens = engine.session.credentials
    if isinstance(tokens, ApiKey):
        raise ConfigError(f"the account {entry.name} uses an API key, which cannot be leased: pass the key itself on")
    if not isinstance(tokens, ChatgptTokens):
        raise _nobody(broker, entry)
    if is_lease(tokens.refresh_token):
        raise ConfigError(f"the account {entry.name} is itself a lease: ask the broker that made it for another one")
    lease, handle = await broker.leases.make(LeaseRequest(entry.id, tokens.account, ttl=ttl, label=label))
    return NewLease(lease, entry, handle, tokens)


async def _authorization(broker: Broker, engine: AuthEngine, entry: AccountEntry, min_lifetime: float) -> Authorization:
    """See `AuthEngine.authorization`. If the store cannot be read, that is the reason. An error names the account."""
    try:
        return await engine.authorization(min_lifetime)
    except NotSignedIn:
        if engine.store_fault is not None:
            raise engine.store_fault from None
        if engine.session.failure is None and engine.session.credentials is None:
            raise _nobody(broker, entry) from None
        raise


def _nobody(broker: Broker, entry: AccountEntry) -> NotSignedIn:
    return NotSignedIn(f"nobody is signed in to the account {entry.name}: {broker.accounts.how_to_sign_in(entry.name)}")
