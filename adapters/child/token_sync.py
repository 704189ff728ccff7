"""Keeps what one `codex app-server` child acts with equal to what the engine holds.

The child holds tokens in memory only. It gets them with `account/login/start`, and asks for newer ones with
`account/chatgptAuthTokens/refresh` after a 401. Two rules keep the number of refreshes down:

- What the child holds is remembered. A question from a child that was refused an old token is answered with the newer
  one at once, and only a refused newest token is refreshed.
- Two turns of one child ask one after the other, and the second question may come after the first answer. The turns
  that were running when the tokens were replaced tell how many such questions there can be (see questions.py).

The refreshes that one child may cause are bounded: a child that asks again and again would spend a refresh token each
time.

A child may not take its login: under some 500 requests at once 0.169.0 refuses others as too many, or drops them. It is
asked again until it does, for it acts with the old login meanwhile.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.child.dialect import Dialect, HandedTokens, login_of, tokens_of
from authstate.adapters.child.failed_turns import Cause, Explanation, thread_of
from authstate.adapters.child.interruptions import Interruptions
from authstate.adapters.child.own_login import ChildHasOwnLogin, has_the_key, kind_of_login
from authstate.adapters.child.token_requests import MOST_REFRESHES, PERIOD, Budget, Replacements, Turns
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, OVERLOADED, Peer, PeerClosed, RemoteError, RpcError
from authstate.engine.clock import SystemClock, within
from authstate.engine.engine import AuthEngine
from authstate.engine.model.authorization import Authorization
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import AuthError, NotSignedIn, PermanentRefreshError, RecoveryExhausted
from authstate.engine.model.events import Event, StateChanged
from authstate.engine.ports import Clock

ANSWER_WITHIN = 9.0  # seconds: a child gives up after 10
_FAILING_STILL = 2.0  # seconds for the next question, while a refresh goes on that has failed so far
_TAKE_WITHIN = 10.0  # seconds a child gets to take tokens
_TOO_BUSY = 0.2  # seconds until a child is asked again that has too many requests
_AGAIN_AFTER = 5.0  # seconds until a child that did not take them is given them again; each time twice as many
_AGAIN_AT_MOST = 60.0

_NEEDS_LOGIN = (PermanentRefreshError, NotSignedIn, RecoveryExhausted)

_question = wire.ParamsDecoder[wire.RefreshQuestion](wire.RefreshQuestion)

Warn = Callable[[str, str], None]
"""Takes a stable code and a message for the log."""


class Holdable(Protocol):
    """Other requests on their way to the child: a `Gate`."""

    def hold(self) -> None:
        """Let none of them pass from here on."""

    def release(self) -> None:
        """End one `hold`."""


class _Alone:
    """There are no other requests that would have to wait."""

    def hold(self) -> None:
        return None

    release = hold


class TokenSync:
    """Hands one child its credentials, and answers its questions for newer ones.

    Args:
        engine: started. One engine serves any number of children.
        peer: the connection to the child.
        warn: hears what a log should hold.
        others: requests of others to the same child; they are held while it changes from one account to another.
        clock: for how long things take.
    """

    def __init__(
        self, engine: AuthEngine, peer: Peer, *, warn: Warn, others: Holdable | None = None, clock: Clock | None = None
    ) -> None:
        self._engine = engine
        self._peer = peer
        self._warn = warn
        self._others = others or _Alone()
        self._clock = clock or SystemClock()
        self._given: Credentials | None = None  # what was sent to the child last
        self._authorization: Authorization | None = None  # what it took last
        self._turns = Turns()
        self._replacements = Replacements(self._clock, self._turns)
        self._budget = Budget(self._clock)
        self._questions = 0
        self._renewals: set[asyncio.Task[None]] = set()
        self._is_holding = False
        self._following: asyncio.Task[None] | None = None
        self._giving_again: asyncio.Task[None] | None = None
        self._pause = _AGAIN_AFTER
        self._is_in_doubt = False  # whether the child took what was sent to it last
        self._unsubscribe: Callable[[], None] | None = None
        self._is_over = False
        self.dialect = Dialect.BOTH
        """The form in which the child takes tokens. Set it before `begin`."""
        self.heard = self._turns.heard
        """Takes the child's notifications, by method and params: which turns are running."""
        self._refusal: Explanation | None = None  # why the last question could not be answered with tokens
        self._is_failing = False  # the last question ran out while the issuer could not be asked
        self._interruptions = Interruptions(self._clock, self._turns)

    @property
    def is_idle(self) -> bool:
        """Whether no turn is running and no question is open: newer tokens can be handed over without a mix-up."""
        return not self._turns and not self._questions

    @property
    def is_signed_in(self) -> bool:
        """Whether the child took a login."""
        return self._authorization is not None

    async def begin(self) -> None:
        """Hand the child what the engine holds, and follow the engine from now on. The child must be initialized.

        An expired login is refreshed first, if that takes no longer than a few seconds. What the child refuses is
        warned of. Cancelled while it hands over, it has begun, and the handing over goes on.

        Raises:
            ChildHasOwnLogin: the child acts with a login that it opened itself. It was handed nothing.
        """
        if self._unsubscribe is None:
            await self._engine.check()
            if self._is_over:
                return
            if (kind := await self._kind_of_own_login()) is not None:
                await self._take_for_given(kind)
            if self._is_over:
                return
            self._unsubscribe = self._engine.subscribe(self._hear)
        self._follow()
        await self.caught_up()

    async def _kind_of_own_login(self) -> str | None:
        """See `kind_of_login`. A child that does not answer shows none."""
        try:
            return await within(self._clock, _TAKE_WITHIN, kind_of_login(self._peer))
        except (PeerClosed, TimeoutError):
            return None

    async def _take_for_given(self, kind: str) -> None:
        """Go on with a child that has our API key already. Raises ChildHasOwnLogin where it has anything else."""
        ours = self._engine.session.credentials
        try:
            is_ours = await within(self._clock, _TAKE_WITHIN, has_the_key(self._peer, ours))
        except (PeerClosed, TimeoutError):
            is_ours = False
        if not is_ours:
            raise ChildHasOwnLogin(kind)
        self._given = ours
        self._note(Authorization.of(self._engine.session))

    async def caught_up(self) -> None:
        """Return once the child has what the engine holds, or did not take it. Cancellation ends the wait only."""
        if self._following is not None:
            await asyncio.wait((self._following,))

    def close(self) -> None:
        """Follow no more: the child is gone, or about to end. Any number of times.

        Questions that are under way are answered with an error, if the connection is still there.
        """
        self._is_over = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._following is not None:
            self._following.cancel()
        if self._giving_again is not None:
            self._giving_again.cancel()
        for renewal in self._renewals:
            renewal.cancel()
        self._release_others()

    async def answer(self, params: Raw | None) -> HandedTokens:
        """Answer `account/chatgptAuthTokens/refresh`.

        Raises:
            RpcError: there are no newer tokens; the message says why and what to do, and so does `why_failed`.

        Cancelling it does not cancel a refresh that others wait for.
        """
        previous = _question(params).previous_account_id
        self._questions += 1
        renewal = asyncio.create_task(self._renew())
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)
        try:
            is_failing_still = self._is_failing and self._engine.refresh_fault is not None
            await within(self._clock, _FAILING_STILL if is_failing_still else ANSWER_WITHIN, renewal)
            answer = self._answer(previous)
        except TimeoutError:
            fault = self._engine.refresh_fault
            self._is_failing = fault is not None
            why = str(fault) if fault is not None else "new tokens did not come in time: try again in a moment"
            raise self._refuse(why) from None
        except AuthError as error:
            raise self._refuse(str(error), needs_login=isinstance(error, _NEEDS_LOGIN)) from None
        finally:
            self._questions -= 1
            self._follow()
        self._refusal, self._is_failing = None, False
        return answer

    def why_failed(self, cause: Cause, params: Raw) -> Explanation | None:
        """Why a turn failed that the child told of with these params; None where nothing of ours explains it."""
        return self._refusal if cause is Cause.QUESTION_REFUSED else self._interruptions.why(thread_of(params))

    async def _renew(self) -> None:
        """Let the engine hold another token than the one that the child was refused."""
        held = self._authorization
        if held is None:
            await self._engine.authorization()
            return
        is_newest = held.token == Authorization.of(self._engine.session).token
        if self._replacements.take() and is_newest:
            return
        is_alone = len(self._renewals) == 1  # questions that wait for the same refresh cost no other one
        if is_newest and is_alone and (left := self._budget.spend()) is not None:
            raise self._refuse(
                f"the app-server asked for new tokens {MOST_REFRESHES} times within {PERIOD:g} seconds, and each was "
                f"refused: wait {math.ceil(left)} seconds, then try again; if it goes on, see why the backend refuses "
                "this account"
            )
        await self._engine.recover(held)

    def _answer(self, previous: str | None) -> HandedTokens:
        session = self._engine.session
        credentials = session.credentials
        authorization = Authorization.of(session)
        if credentials is None or isinstance(credentials, ApiKey):
            raise self._refuse("the account is signed in with an API key now: try again")
        if previous is not None and previous != authorization.account_id:
            raise self._refuse("another workspace is signed in now: try again")
        self._given = credentials
        self._note(authorization, by_answer=True)
        self._is_in_doubt = False
        self._be_sure()
        return tokens_of(credentials, self.dialect)

    def _refuse(self, message: str, *, needs_login: bool = False) -> RpcError:
        self._refusal = Explanation(message, needs_login)
        return RpcError(INTERNAL_ERROR, message)

    # Following the engine

    def _hear(self, event: Event) -> None:
        if not isinstance(event, StateChanged) or self._peer.closed:
            return
        if not is_same_account(event.previous.credentials, event.current.credentials):
            self._interruptions.changed(event.current)
            if not self._is_holding:
                self._is_holding = True
                self._others.hold()
        self._follow()

    def _follow(self) -> None:
        """Bring the child up to date, unless that is under way, or an answer is about to do it."""
        if self._unsubscribe is None or self._peer.closed:
            return
        if self._following is None or self._following.done():
            self._following = asyncio.ensure_future(self._catch_up_alone())

    async def _catch_up_alone(self) -> None:
        try:
            await self._catch_up()
        finally:
            self._release_others()

    def _release_others(self) -> None:
        if self._is_holding:
            self._is_holding = False
            self._others.release()

    async def _catch_up(self) -> None:
        while not self._peer.closed:
            session = self._engine.session
            wanted = session.credentials
            is_new = self._is_in_doubt or not is_same(wanted, self._given)
            if not is_new or (self._questions and not isinstance(wanted, ApiKey | None)):
                return
            may_hold = self._is_in_doubt or self._given is not None
            if not self._is_in_doubt:
                self._be_sure()
            self._is_in_doubt, self._given = False, wanted
            try:
                await within(self._clock, _TAKE_WITHIN, self._give(may_hold, wanted))
                if self._given is wanted:
                    self._note(None if wanted is None else Authorization.of(session))
                self._be_sure()
            except PeerClosed:
                return
            except TimeoutError:
                self._doubt("child_silent", f"the child did not take its tokens within {_TAKE_WITHIN:g} seconds")
            except RemoteError as error:
                self._doubt("child_refused", f"the child refused its tokens: {error}")

    def _doubt(self, code: str, what: str) -> None:
        """The child did not take its login: it is given it again, after a pause."""
        if self._pause == _AGAIN_AFTER:
            self._warn(code, f"{what}; it is given them again until it takes them")
        self._giving_again = asyncio.create_task(self._give_again(self._pause))
        self._pause = min(2 * self._pause, _AGAIN_AT_MOST)

    async def _give_again(self, pause: float) -> None:
        await self._clock.sleep(pause)
        self._is_in_doubt = True
        self._follow()

    def _be_sure(self) -> None:
        """Nothing is to be given again: the child took it, or there is something newer."""
        self._pause = _AGAIN_AFTER
        if self._giving_again is not None:
            self._giving_again.cancel()
            self._giving_again = None

    async def _give(self, may_hold: bool, wanted: Credentials | None) -> None:
        """Have the child take it; one that may hold a login is signed out before it takes a key."""
        if wanted is None or (isinstance(wanted, ApiKey) and may_hold):
            await self._ask("account/logout", None)
        if isinstance(wanted, ApiKey):
            await self._ask("account/login/start", wire.ApiKeyLogin(wanted.key.reveal()))
        elif wanted is not None:
            await self._ask("account/login/start", login_of(wanted, self.dialect))

    async def _ask(self, method: str, params: HandedTokens | wire.ApiKeyLogin | None) -> None:
        while True:
            try:
                await self._peer.request(method, params)
            except RemoteError as error:
                if error.code != OVERLOADED:
                    raise
                await self._clock.sleep(_TOO_BUSY)
            else:
                return

    def _note(self, authorization: Authorization | None, *, by_answer: bool = False) -> None:
        """Remember what the child acts with from now on."""
        before = self._authorization
        if before is None or authorization is None or before.account_id != authorization.account_id:
            self._replacements.forget()
        elif before.token != authorization.token:
            self._replacements.replaced(by_answer=by_answer)
        self._authorization = authorization


def is_same_account(one: Credentials | None, other: Credentials | None) -> bool:
    """Whether a child that goes from one to the other acts for the same account before and after."""
    if isinstance(one, ApiKey) or isinstance(other, ApiKey) or one is None or other is None:
        return one == other
    return one.account.is_same_as(other.account)


def is_same(one: Credentials | None, other: Credentials | None) -> bool:
    """Whether a child acts the same with both."""
    if isinstance(one, ApiKey) or isinstance(other, ApiKey) or one is None or other is None:
        return one == other
    return one.access_token == other.access_token and one.account == other.account
