"""Whether a lease stands in auth.json instead of a login, and whose it is, for `authstate status`."""

from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from authstate.adapters.cli.broker_place import broker_answers, home_has_broker, url_in_environment
from authstate.adapters.cli.context import CommandContext
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.machines.lease import Lease, LeaseState
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

_ADOPTED = (
    "the vault of this home has this login, and auth.json a lease on it (`authstate broker adopt`): codex gets access "
    "tokens from the broker"
)
_LEASED = "auth.json holds a lease, and no login: {broker} makes the access tokens, and the login stays where it is"
_START = "no broker answers: start `authstate broker`, or move the login back with `authstate broker release`"
_NOT_NAMED = "these variables are not set in this environment: `authstate broker adopt` prints them for codex"
_ANOTHER_LEASE = "the lease in auth.json is over, and codex gets nothing for it: `authstate broker adopt` makes another"
_NO_VARIABLES = (
    "no broker is named here: set the variables of authstate.env, which `authstate lease new` has written beside "
    "auth.json"
)
_ASK_FOR_A_LEASE = "ask whoever runs the broker for a new lease"


class LeaseMaker(StrEnum):
    """Where the lease in a home comes from."""

    THIS_VAULT = "this_vault"
    """`authstate broker adopt` has moved the login of the home into its vault."""
    ANOTHER_BROKER = "another_broker"
    """`authstate lease new --into` has written the home, or it is a copy of such a home."""


class HomeLease(msgspec.Struct, frozen=True, rename="camel"):
    """The lease in a home. It holds no secret."""

    made_by: LeaseMaker
    message: str
    """What it means."""
    has_broker: bool
    """Whether a broker answers that takes it."""
    advice: str | None = None
    """What to do. None if nothing is wrong."""


async def find_home_lease(context: CommandContext, session: Session) -> HomeLease | None:
    """Return the lease that stands in the home. None if there is none, or if another account than the home's is used.

    Args:
        context: of the command.
        session: who is signed in.
    """
    store = context.store
    if not isinstance(store, VaultStore) or store.account != HOME_ACCOUNT:
        return None
    home_account = store.vault.home_account
    try:
        stored = await home_account.home.load()
    except StoreUnavailable:  # `status` reports it
        return None
    if not isinstance(stored, ChatgptTokens) or not is_lease(stored.refresh_token):
        return None
    if home_account.is_adopted_by(stored):
        handle = LeaseHandle.parse(stored.refresh_token.reveal())
        lease = None if handle is None else _find(LeaseBook(store.vault.folder), handle)
        return await _of_this_vault(context, session, lease)
    return await _of_another_broker(context, session)


async def _of_this_vault(context: CommandContext, session: Session, lease: Lease | None) -> HomeLease:
    url = url_in_environment(context.environment)
    is_named = url is not None
    has_broker = await home_has_broker(context.environment) or (
        url is not None and await broker_answers(url, context.environment.network)
    )
    advice = None
    if session.state in (AuthState.LOGGED_OUT, AuthState.REFRESH_DEAD):
        pass  # `status` says how to sign in
    elif lease is not None and lease.state is not LeaseState.ACTIVE:
        advice = _ANOTHER_LEASE
    elif not has_broker:
        advice = _START
    elif not is_named:
        advice = f"codex needs CODEX_REFRESH_TOKEN_URL_OVERRIDE and CODEX_REVOKE_TOKEN_URL_OVERRIDE, and {_NOT_NAMED}"
    return HomeLease(LeaseMaker.THIS_VAULT, _ADOPTED, has_broker, advice)


async def _of_another_broker(context: CommandContext, session: Session) -> HomeLease:
    url = url_in_environment(context.environment)
    if url is None:
        return HomeLease(LeaseMaker.ANOTHER_BROKER, _LEASED.format(broker="a broker"), False, _NO_VARIABLES)
    place = _without_user(url)
    has_broker = await broker_answers(url, context.environment.network)
    advice = None
    if session.state is AuthState.REFRESH_DEAD:
        advice = _ASK_FOR_A_LEASE
    elif not has_broker:
        advice = f"no broker answers at {place}: whoever runs it has to start it, or this machine cannot reach it"
    return HomeLease(LeaseMaker.ANOTHER_BROKER, _LEASED.format(broker=f"the broker at {place}"), has_broker, advice)


def _find(leases: LeaseBook, handle: LeaseHandle) -> Lease | None:
    try:
        return leases.find(handle)
    except StoreUnavailable:
        return None


def _without_user(url: str) -> str:
    """Return a URL without a name and a password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
