"""Sends one child the engine's credentials after every change, until the child accepts them.

codex 0.169.0 may not accept them: under some 500 requests at once, it refuses further ones as too many, or drops them.
The credentials are sent again until the child accepts them, because meanwhile it uses the old login.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from authstate.adapters.app_server import wire
from authstate.adapters.child.refresh_requests import RefreshRequests
from authstate.adapters.child.token_dialects import ChildCredentials, ChildTokenSet, Dialect, for_child, login_of
from authstate.adapters.child.token_states import ChildTokens
from authstate.adapters.jsonrpc.peer import OVERLOADED, Peer, PeerClosed, RemoteError
from authstate.engine.clock import within
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.session import Authorization
from authstate.engine.ports import Clock

_ANSWER_TIMEOUT = 10.0  # seconds for a child to accept its tokens
_BUSY_PAUSE = 0.2  # seconds before repeating a request that a busy child refused
_FIRST_PAUSE = 5.0  # seconds until tokens that a child did not accept are sent again; doubles each time
_LONGEST_PAUSE = 60.0

Warn = Callable[[str, str], None]
"""Receives a stable code and a message for the log."""


class Holdable(Protocol):
    """Holds other requests on their way to the child: a `Gate`."""

    def hold(self) -> None:
        """Let no request pass from now on."""

    def release(self) -> None:
        """End one `hold`."""


class OtherRequests:
    """Holds other requests to the child while it changes accounts. It holds them at most once.

    Args:
        holdable: holds the requests; None if there are none.
    """

    def __init__(self, holdable: Holdable | None) -> None:
        self._holdable = holdable
        self._is_holding = False

    def hold(self) -> None:
        """Hold the requests, unless they are already held."""
        if self._holdable is not None and not self._is_holding:
            self._is_holding = True
            self._holdable.hold()

    def release(self) -> None:
        """Let the requests pass, if they are held."""
        if self._holdable is not None and self._is_holding:
            self._is_holding = False
            self._holdable.release()


class Sender:
    """Sends credentials to one child.

    Args:
        peer: the connection to the child.
        clock: times the child's answers.
    """

    def __init__(self, peer: Peer, clock: Clock) -> None:
        self.peer = peer
        self.clock = clock
        self.dialect = Dialect.BOTH
        """The form in which the child accepts tokens."""

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return self.peer.closed

    async def send(self, credentials: ChildCredentials | None, *, may_hold_login: bool) -> None:
        """Send credentials to the child, and wait until it accepts them. None signs it out.

        Args:
            credentials: what the child is to use.
            may_hold_login: whether the child may hold a login. If so, it accepts an API key only after a sign-out.

        Raises:
            TimeoutError: the child did not answer within 10 seconds.
            RemoteError: it refused them.
            PeerClosed: it is gone.
        """
        await within(self.clock, _ANSWER_TIMEOUT, self._send(credentials, may_hold_login))

    async def _send(self, credentials: ChildCredentials | None, may_hold_login: bool) -> None:
        if credentials is None or (isinstance(credentials, ApiKey) and may_hold_login):
            await self._request("account/logout", None)
        if isinstance(credentials, ApiKey):
            await self._request("account/login/start", wire.ApiKeyLogin(credentials.key.reveal()))
        elif credentials is not None:
            await self._request("account/login/start", login_of(credentials, self.dialect))

    async def _request(self, method: str, params: ChildTokenSet | wire.ApiKeyLogin | None) -> None:
        """Send a request. Repeat it after a pause while the child has too many requests."""
        while True:
            try:
                await self.peer.request(method, params)
            except RemoteError as error:
                if error.code != OVERLOADED:
                    raise
                await self.clock.sleep(_BUSY_PAUSE)
            else:
                return


class RetrySchedule:
    """Calls a function after a pause, which doubles from 5 to 60 seconds until `reset`.

    Args:
        clock: times the pauses.
        call: the function.
    """

    def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
        self._clock = clock
        self._call = call
        self._pause = _FIRST_PAUSE
        self._task: asyncio.Task[None] | None = None

    def schedule(self) -> bool:
        """Call after the next pause. Return whether this is the first pause since `reset`."""
        is_first = self._pause == _FIRST_PAUSE
        self._task = asyncio.create_task(self._call_after(self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return is_first

    def reset(self) -> None:
        """Cancel the scheduled call, and start again with the first pause. May be called more than once."""
        self._pause = _FIRST_PAUSE
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _call_after(self, pause: float) -> None:
        await self._clock.sleep(pause)
        self._call()


class TokenPush:
    """Keeps the credentials of one child equal to those of the engine, as far as a child can hold them (`for_child`).

    Args:
        engine: the engine, already started.
        sender: sends credentials to the child.
        requests: the child's refresh requests. While one is open, its answer brings newer tokens.
        others: other requests to the child. They are released once the child is up to date.
        clock: times retries.
        warn: receives warnings for the log.
    """

    def __init__(
        self,
        engine: AuthEngine,
        sender: Sender,
        requests: RefreshRequests,
        others: OtherRequests,
        clock: Clock,
        warn: Warn,
    ) -> None:
        self._engine = engine
        self._sender = sender
        self._requests = requests
        self._others = others
        self._warn = warn
        self._retry = RetrySchedule(clock, self._retry_due)
        self._task: asyncio.Task[None] | None = None
        self.tokens: ChildTokens = ChildTokens()
        """The state of the child's tokens."""

    def update(self) -> None:
        """Start to bring the child up to date, unless that has started or the child is not followed."""
        if not self.tokens.is_followed or self._sender.is_closed:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Return once the child holds the engine's credentials or did not accept them.

        Cancellation ends only the wait.
        """
        if self._task is not None:
            await asyncio.wait((self._task,))

    def answered(self, tokens: ChatgptTokens | ExternalTokens) -> None:
        """Record that the child received these tokens in the answer to a refresh request."""
        self.tokens.answered(tokens)
        self._retry.reset()

    def close(self) -> None:
        """Send nothing more. May be called more than once."""
        self.tokens.close()
        if self._task is not None:
            self._task.cancel()
        self._retry.reset()
        self._others.release()

    async def _run(self) -> None:
        try:
            while self._must_send():
                await self._send()
        finally:
            self._others.release()

    def _must_send(self) -> bool:
        if not self.tokens.is_followed or self._sender.is_closed:
            return False
        wanted = for_child(self._engine.session.credentials)
        if self.tokens.compare(wanted):
            self._retry.reset()
        is_answer_coming = self._requests.is_open and not isinstance(wanted, ApiKey | None)
        return self.tokens.state == "outdated" and not is_answer_coming

    async def _send(self) -> None:
        session = self._engine.session
        credentials = for_child(session.credentials)
        may_hold_login = self.tokens.may_hold_login
        self.tokens.send(credentials)
        try:
            await self._sender.send(credentials, may_hold_login=may_hold_login)
        except PeerClosed:
            self.tokens.close()
        except TimeoutError:
            self._not_taken(
                "child_silent", f"the app-server did not take its tokens within {_ANSWER_TIMEOUT:g} seconds"
            )
        except RemoteError as error:
            self._not_taken("child_refused", f"the app-server refused its tokens: {error}")
        except Exception as error:
            self._not_taken("child_unreachable", f"the app-server was not sent its tokens: {type(error).__name__}")
            raise
        else:
            if self.tokens.taken(credentials):
                self._requests.held.update(None if credentials is None else Authorization.of(session))
            self._retry.reset()

    def _not_taken(self, code: str, what: str) -> None:
        self.tokens.not_taken()
        if self._retry.schedule():
            self._warn(code, f"{what}; authstate sends them again until it takes them")

    def _retry_due(self) -> None:
        self.tokens.retry_due()
        self.update()
