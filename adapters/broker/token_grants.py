"""What the broker's token endpoint and revocation endpoint do, without HTTP.

A client presents what stands as the refresh token in its auth.json:

    the handle of a lease         it gets an access token of the account of the lease, for as long as the lease lasts
    a refresh token of the vault  the child of a home that was not adopted. The broker spends the token, or has spent
                                  it, under the lock that all processes of the login share, and stores what the issuer
                                  sends. The answer has no refresh token: codex then keeps the one that it finds in
                                  auth.json, which is the new one

Whether a client needs a new token or the current one cannot be seen from the clock: it may ask because the backend
refused its token. A handle tells which access token the client got last (model/lease_handle.py), and a refresh token
belongs to one access token. A client that has the current one causes a refresh; any other client gets the current one.
So any number of clients whose token expired or was refused costs one refresh.

codex 0.169.0 and later ask again without a pause when they are told to try again later, 23 times within a second, and
when they get a token with 5 minutes left or less (measured). So such a refusal is held back for a second, a client gets
the current access token instead while that is valid, and one that lasts longer wherever the issuer gives such tokens.
codex 0.93.0 empties auth.json before it writes it. Several of them that share a home get their answers one after the
other (answer_turns.py).
"""

import msgspec

from authstate.adapters.broker.answer_turns import AnswerTurns
from authstate.adapters.broker.leases import Leases
from authstate.adapters.broker.lends_engines import LendsEngines
from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.rate_limits import Rate, RateLimit
from authstate.adapters.broker.refusals import TRY_AGAIN, refusal_of, slow_down
from authstate.adapters.broker.token_owners import TokenOwner
from authstate.adapters.confidential import Confidential
from authstate.adapters.config.home import ConfigError
from authstate.engine.clock import within
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.refresh_urgency import Urgency
from authstate.engine.machines.lease import Lease, LeaseState
from authstate.engine.machines.refresh_claim import format_time
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    AuthError,
    NotSignedIn,
    TransientAuthError,
    strip_tracebacks_of_methods,
)
from authstate.engine.model.lease_handle import LeaseHandle, digest_of_access, is_lease
from authstate.engine.model.secret import MAX_TOKEN_LENGTH, Secret
from authstate.engine.model.session import Authorization
from authstate.engine.ports import Clock, TokenAuthority

GRANTS = Rate(burst=120, per_second=4.0)
"""Access tokens for one lease, or for one login."""
REFRESHES = Rate(burst=60, per_second=1 / 15)
"""Refreshes that one of them causes before its access token expires."""
UNKNOWN = Rate(burst=60, per_second=2.0)
"""Refresh tokens that no account has, of all clients together: each one is looked for in every store."""

SHORTEST = 360.0
"""Seconds that an access token lasts at least when a client gets it: codex refreshes in the last 300."""

JUST_NOW = 0.5
"""Seconds for which a new access token is taken for a good one. codex 0.169.0 asks once more if a request that it sent
with the old one is refused after it has the new one (measured).
"""

_HELD_BACK = 1.0  # seconds
_ANSWER_WITHIN = 15.0  # seconds; codex 0.169.0 gives up after 20 (measured). The refresh goes on
_ASK_THE_OWNER = "ask whoever runs the broker for a new lease"
_UNKNOWN_TOKEN = (
    "no account of this vault has this refresh token, or it is of an earlier login: start codex again, or sign in "
    "again with `authstate login`"
)
_ALL_CLIENTS = "all"
_MOST_REMEMBERED = 10_000  # clients


class PresentedToken(msgspec.Struct, frozen=True):
    """What a client presents at the token endpoint."""

    token: Secret
    """The handle of a lease, or a refresh token."""
    access_was_refused: bool = True
    """The backend may have refused the client's access token, so the same one would not help."""
    may_be_late: bool = False
    """The client may ask for a request that it sent before it got the current access token."""
    writes_in_place: bool = False
    """The client is a codex that empties auth.json before it writes it, so another one may read half of it."""


class Grant(Confidential, frozen=True):
    """An access token for a client."""

    access_token: str
    id_token: str
    refresh_token: str | None
    """What the client presents the next time. None: what it has."""
    expires_at: float | None
    """Seconds since the epoch; None if it is not known."""
    account: str
    """The id of the account in the vault."""


@strip_tracebacks_of_methods
class TokenGrants:
    """Answers the clients of a broker.

    Args:
        accounts: of a vault or of a database.
        leases: who may get access tokens with a handle.
        authority: the issuer, for a token that is to be revoked and that no account has any more.
        clock: for the bounds on requests.
    """

    def __init__(self, accounts: LendsEngines, leases: Leases, authority: TokenAuthority, clock: Clock) -> None:
        self._accounts = accounts
        self._leases = leases
        self._authority = authority
        self._clock = clock
        self._turns = AnswerTurns(clock)
        self._grants = RateLimit(GRANTS, clock.monotonic)
        self._renewed: dict[str, str] = {}  # by client: the digest of the access token that it had refreshed last
        self._refreshes = RateLimit(REFRESHES, clock.monotonic)
        self._unknown = RateLimit(UNKNOWN, clock.monotonic)

    async def refresh(self, presented: PresentedToken) -> Grant:
        """Answer `grant_type=refresh_token`.

        Raises:
            OAuthRefusal: there is no access token for this client, or not now.

        Cancelling it cancels no refresh: other clients may wait for the same one.
        """
        try:
            handle = _handle(presented.token)
            answer = self._for_login(presented) if handle is None else self._for_lease(handle, presented)
            grant = await within(self._clock, _ANSWER_WITHIN, answer)
            if presented.writes_in_place:
                await self._take_turn(grant, handle)
            return grant
        except TimeoutError:
            said = "no new access token yet, from the issuer or from another process that refreshes: try again"
            refusal = OAuthRefusal(OAuthError.TEMPORARILY_UNAVAILABLE, said, TRY_AGAIN)
        except AuthError as error:
            refusal = refusal_of(error)
        except ConfigError as error:  # the account was removed
            refusal = OAuthRefusal(OAuthError.INVALID_GRANT, f"{error}. Or {_ASK_THE_OWNER}")
        except OAuthRefusal as refused:
            refusal = refused.without_traceback()
        if refusal.retry_after is not None:
            await self._clock.sleep(_HELD_BACK)
        raise refusal

    async def _take_turn(self, grant: Grant, handle: LeaseHandle | None) -> None:
        """Wait until the client before, which shares the home, has written auth.json. See `AnswerTurns`."""
        lease = None if handle is None else await self._leases.find(handle)
        is_in_home = handle is None or (lease is not None and (lease.is_of_home or lease.signs_out))
        home = self._accounts.home_of(grant.account) if is_in_home else None
        if home is not None:
            await self._turns.wait_in_home(home)
        else:
            await self._turns.wait_elsewhere(grant.account if handle is None else handle.digest)

    async def revoke(self, presented: Secret) -> None:
        """Answer a revocation, as RFC 7009 describes it: an unknown token is no error.

        The handle of a lease ends that lease. In a home of the vault's owner (`Lease.signs_out`), and with the refresh
        token of an account, it signs the account out, because that is what signing out of codex means.

        Raises:
            OAuthRefusal: it cannot be revoked now.
        """
        try:
            handle = _handle(presented)
            await (self._revoke_login(presented) if handle is None else self._revoke_lease(handle))
            return
        except AuthError as error:
            refusal = refusal_of(error)
        except ConfigError:  # the account or the lease was removed
            return
        raise refusal

    # With the handle of a lease

    async def _for_lease(self, handle: LeaseHandle, presented: PresentedToken) -> Grant:
        lease = await self._active(handle)
        self._bound(self._grants, lease.id)
        async with self._accounts.engine(lease.account) as engine:
            tokens = self._signed_in(engine, lease.account)
            _ensure_owner(lease, tokens)
            is_current = handle.seen == digest_of_access(tokens.access_token)
            if is_current and not (presented.may_be_late and self._is_just_new(tokens)):
                await self._renew(engine, lease.id, is_refused=presented.access_was_refused)
            tokens = await self._current_tokens(engine)
        lease = await self._active(handle)  # it may have ended meanwhile
        _ensure_owner(lease, tokens)
        if lease.is_of_home and not is_current:
            await self._accounts.update_lease_of_home()
        # The lease in the home was updated with the login, and a codex from 0.169.0 on takes it from there.
        return _grant(tokens, lease.account, None if lease.is_of_home else handle.text(tokens.access_token))

    async def _active(self, handle: LeaseHandle) -> Lease:
        lease = await self._leases.find(handle)
        if lease is None:
            said = f"this broker knows no such lease: it was made by another broker, or was removed; {_ASK_THE_OWNER}"
            raise OAuthRefusal(OAuthError.INVALID_GRANT, said)
        if lease.state is LeaseState.EXPIRED:
            when = format_time(lease.expires_at or 0.0)
            raise OAuthRefusal(OAuthError.INVALID_GRANT, f"the lease {lease.id} expired at {when}: {_ASK_THE_OWNER}")
        if lease.state is LeaseState.ENDED:
            raise OAuthRefusal(OAuthError.INVALID_GRANT, f"the lease {lease.id} was ended: {_ASK_THE_OWNER}")
        return lease

    async def _revoke_lease(self, handle: LeaseHandle) -> None:
        lease = await self._leases.find(handle)
        if lease is None or lease.state is LeaseState.ENDED:
            return
        if (lease.signs_out or lease.is_of_home) and lease.state is LeaseState.ACTIVE:
            async with self._accounts.engine(lease.account) as engine:
                credentials = engine.session.credentials
                if isinstance(credentials, ChatgptTokens) and lease.is_for(credentials.account):
                    await engine.log_out()
        await self._leases.end(lease.id)

    # With a refresh token

    async def _for_login(self, presented: PresentedToken) -> Grant:
        refresh_token = presented.token
        owner = await self._owner_of(refresh_token)
        if owner is None:
            raise OAuthRefusal(OAuthError.INVALID_GRANT, _UNKNOWN_TOKEN)
        self._bound(self._grants, owner.account)
        async with self._accounts.engine(owner.account) as engine:
            tokens = self._signed_in(engine, owner.account)
            _ensure_login(owner, tokens)
            is_current = tokens.refresh_token == refresh_token
            if is_current and not (presented.may_be_late and self._is_just_new(tokens)):
                await self._renew(engine, owner.account, is_refused=presented.access_was_refused)
            tokens = await self._current_tokens(engine)
        _ensure_login(owner, tokens)
        return _grant(tokens, owner.account, None)

    async def _revoke_login(self, refresh_token: Secret) -> None:
        owner = await self._owner_of(refresh_token)
        if owner is None:
            await self._authority.revoke(refresh_token)
            return
        async with self._accounts.engine(owner.account) as engine:
            credentials = engine.session.credentials
            if isinstance(credentials, ChatgptTokens) and credentials.refresh_token == refresh_token:
                await engine.log_out()

    async def _owner_of(self, refresh_token: Secret) -> TokenOwner | None:
        """Return whose a token is. Unknown tokens are bounded before anybody looks for them."""
        owners = self._accounts.owners
        if owner := await owners.known(refresh_token):
            return owner
        if wait := self._unknown.wait(_ALL_CLIENTS):
            raise slow_down(wait)
        owner = await owners.find(refresh_token)
        if owner is None:
            self._unknown.take(_ALL_CLIENTS)
        return owner

    # For both

    def _signed_in(self, engine: AuthEngine, account: str) -> ChatgptTokens:
        """Return the tokens of an account. Raises NotSignedIn, with what to do."""
        return _tokens_of(engine, f"the account {account}", self._accounts.how_to_sign_in(account))

    async def _renew(self, engine: AuthEngine, client: str, *, is_refused: bool) -> None:
        """Refresh for a client that has the current access token and asks for another one.

        If that was done too often for this client, the current one stays. So it does if it is not possible just now and
        the backend did not refuse it.
        """
        if engine.urgency() is not Urgency.NOW and self._is_too_often(client, _tokens_of(engine)):
            return
        reason = self._accounts.fault or (None if is_refused else engine.pause_reason)
        if reason is not None:  # an answer could not be stored, or the issuer could not be asked just now
            if is_refused or engine.is_expired():
                raise reason.without_traceback()
            return
        try:
            if is_refused:
                await engine.recover(Authorization.of(engine.session))
            else:
                await engine.refresh()
        except TransientAuthError:
            if is_refused or engine.is_expired():
                raise

    async def _current_tokens(self, engine: AuthEngine) -> ChatgptTokens:
        """Return tokens whose access token can be used now, and for a while, if there can be such tokens."""
        fault = self._accounts.fault
        if fault is None:
            await engine.authorization(SHORTEST)
        elif engine.is_expired():
            raise fault.without_traceback()
        return _tokens_of(engine)

    def _is_too_often(self, client: str, tokens: ChatgptTokens) -> bool:
        """Whether a client causes too many refreshes. Many processes that could not use one token cause one refresh."""
        access = digest_of_access(tokens.access_token)
        if self._renewed.get(client) == access:
            return False
        if self._refreshes.take(client):
            return True
        self._renewed.pop(client, None)
        self._renewed[client] = access
        if len(self._renewed) > _MOST_REMEMBERED:
            del self._renewed[next(iter(self._renewed))]
        return False

    def _is_just_new(self, tokens: ChatgptTokens) -> bool:
        """Whether the issuer gave the access token just now, so that a request with an older one was refused."""
        age = self._clock.now() - tokens.last_refresh if tokens.last_refresh is not None else JUST_NOW
        return 0.0 <= age < JUST_NOW and (tokens.expires_at is None or tokens.expires_at > self._clock.now())

    def _bound(self, limit: RateLimit, client: str) -> None:
        if wait := limit.take(client):
            raise slow_down(wait)


def _handle(presented: Secret) -> LeaseHandle | None:
    """Return the handle of a lease, None for anything that may be a refresh token.

    Raises:
        OAuthRefusal: it is neither.
    """
    text = presented.reveal()
    if not text.strip() or len(text) > MAX_TOKEN_LENGTH:
        raise OAuthRefusal(OAuthError.INVALID_REQUEST, "the token is empty or too long: sign in again")
    handle = LeaseHandle.parse(text)
    if handle is None and is_lease(presented):  # it must not be taken for a refresh token, which an issuer may see
        said = f"the handle of this lease is damaged: {_ASK_THE_OWNER}"
        raise OAuthRefusal(OAuthError.INVALID_GRANT, said)
    return handle


def _tokens_of(
    engine: AuthEngine, account: str = "this account", advice: str = "sign in with `authstate login`"
) -> ChatgptTokens:
    """Return the tokens of a session. Raises NotSignedIn, with the reason if one is known.

    Args:
        engine: of the account.
        account, advice: the name of the account and what to do, for the message.
    """
    session = engine.session
    if isinstance(session.credentials, ChatgptTokens):
        return session.credentials
    if engine.store_fault is not None:
        raise engine.store_fault.without_traceback()
    if session.failure is not None:
        raise NotSignedIn(session.failure.message)
    raise NotSignedIn(f"nobody is signed in to {account} with ChatGPT: {advice}")


def _ensure_owner(lease: Lease, tokens: ChatgptTokens) -> None:
    if not lease.is_for(tokens.account):
        said = f"somebody else signed in to the account of the lease {lease.id} since it was made: {_ASK_THE_OWNER}"
        raise OAuthRefusal(OAuthError.INVALID_GRANT, said)


def _ensure_login(owner: TokenOwner, tokens: ChatgptTokens) -> None:
    if tokens.account.digest != owner.login:
        said = "somebody else has signed in since: start codex again, or sign in again with `authstate login`"
        raise OAuthRefusal(OAuthError.INVALID_GRANT, said)


def _grant(tokens: ChatgptTokens, account: str, refresh_token: Secret | None) -> Grant:
    return Grant(
        access_token=tokens.access_token.reveal(),
        id_token=tokens.id_token.reveal(),
        refresh_token=None if refresh_token is None else refresh_token.reveal(),
        expires_at=tokens.expires_at,
        account=account,
    )
