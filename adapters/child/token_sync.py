"""Keeps the tokens of one `codex app-server` child equal to those of the engine.

The child holds tokens in memory only. It gets them with `account/login/start`, and asks for newer ones with
`account/chatgptAuthTokens/refresh` after a 401.

    token_states.py      the state of the child's tokens, as a table
    token_push.py        sends them after every change of the engine, again if the child does not take them
    refresh_requests.py  answers the child's refresh requests, within a budget
    held_token.py        which token such a request is about
    interruptions.py     which turns a change of the account has ended
"""

from collections.abc import Callable

from msgspec import Raw

from authstate.adapters.child.failed_turns import Explanation, FailureCause, thread_of
from authstate.adapters.child.held_token import HeldToken
from authstate.adapters.child.interruptions import Interruptions
from authstate.adapters.child.own_login import refuse_own_login
from authstate.adapters.child.refresh_requests import RefreshRequests
from authstate.adapters.child.running_turns import RunningTurns
from authstate.adapters.child.token_dialects import ChildCredentials, ChildTokenSet, Dialect, for_child, tokens_of
from authstate.adapters.child.token_push import Holdable, OtherRequests, Sender, TokenPush, Warn
from authstate.adapters.jsonrpc.peer import Peer
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.engine.model.events import Event, StateChanged
from authstate.engine.model.session import Authorization
from authstate.engine.ports import Clock

_CANNOT_TAKE = (
    "a personal access token was signed in, and a running app-server cannot take one, so it was signed out: start it "
    "again to use the token"
)


class TokenSync:
    """Gives one child the engine's credentials, and answers its refresh requests.

    Args:
        engine: started. One engine serves any number of children.
        peer: the connection to the child.
        warn: takes what a log should hold.
        others: requests of others to the same child. They are held while it changes from one account to another.
        clock: measures times.
    """

    def __init__(
        self, engine: AuthEngine, peer: Peer, *, warn: Warn, others: Holdable | None = None, clock: Clock | None = None
    ) -> None:
        clock = clock or SystemClock()
        self._engine = engine
        self._warn = warn
        self._turns = RunningTurns()
        self._interruptions = Interruptions(clock, self._turns)
        self._sender = Sender(peer, clock)
        self._others = OtherRequests(others)
        self._requests = RefreshRequests(engine, HeldToken(clock, self._turns), clock)
        self._updates = TokenPush(engine, self._sender, self._requests, self._others, clock, warn)
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no turn is running and no refresh request is open: newer tokens can be sent without a mix-up."""
        return not self._turns and not self._requests.is_open

    @property
    def is_signed_in(self) -> bool:
        """Whether the child took a login."""
        return self._requests.held.authorization is not None

    async def begin(self, dialect: Dialect = Dialect.BOTH) -> None:
        """Send the child what the engine holds, and follow the engine from now on. The child must be initialized.

        Refreshes an expired login first, if that takes no longer than a few seconds. Warns of a child that does not
        take its tokens. Cancelled while it sends, it has begun, and the sending goes on.

        Args:
            dialect: the form in which the child takes tokens.

        Raises:
            ChildHasOwnLogin: the child acts with a login that it opened itself. It was sent nothing.
        """
        self._sender.dialect = dialect
        if self._updates.tokens.state == "not_started":
            await self._engine.check()
            if self._updates.tokens.state == "closed":
                return
            kept = await refuse_own_login(self._sender.peer, lambda: self._engine.session, self._sender.clock)
            if kept is not None:
                self._requests.held.update(Authorization.of(kept))
            if self._updates.tokens.state == "closed":
                return
            self._updates.tokens.start(None if kept is None else for_child(kept.credentials))
            self._unsubscribe = self._engine.subscribe(self._on_event)
        self._updates.update()
        await self._updates.settled()

    async def settled(self) -> None:
        """Return once the child has what the engine holds, or did not take it. Cancellation ends the wait only."""
        await self._updates.settled()

    def close(self) -> None:
        """Follow the engine no more: the child is gone, or about to end. May be called again.

        Open refresh requests are answered with an error, if the connection is still there.
        """
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._updates.close()
        self._requests.close()

    async def answer(self, params: Raw | None) -> ChildTokenSet:
        """Answer `account/chatgptAuthTokens/refresh`.

        Raises:
            RpcError: there are no newer tokens; the message says why and what to do, and so does `explain_failure`.

        Cancelling it does not cancel a refresh that others wait for.
        """
        try:
            tokens = await self._requests.answer(params)
            self._updates.answered(tokens)
            return tokens_of(tokens, self._sender.dialect)
        finally:
            self._updates.update()

    def on_notification(self, method: str | None, params: Raw | None) -> None:
        """Take a notification of the child: it says which turns are running."""
        self._turns.on_notification(method, params)

    def explain_failure(self, cause: FailureCause, params: Raw) -> Explanation | None:
        """Why a turn failed that the child reports with these params. None when the login is not the reason."""
        if cause is FailureCause.REFRESH_REFUSED:
            return self._requests.refusal
        return self._interruptions.explain(thread_of(params))

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, StateChanged) or self._sender.is_closed:
            return
        if not is_same_account(for_child(event.previous.credentials), for_child(event.current.credentials)):
            if isinstance(event.current.credentials, PersonalAccessToken):
                self._warn("child_signed_out", _CANNOT_TAKE)
            self._interruptions.on_account_changed(event.current)
            self._others.hold()
        self._updates.update()


def is_same_account(one: ChildCredentials | None, other: ChildCredentials | None) -> bool:
    """Whether a child that goes from one to the other acts for the same account before and after."""
    if isinstance(one, ApiKey) or isinstance(other, ApiKey) or one is None or other is None:
        return one == other
    return one.account.is_same_as(other.account)
