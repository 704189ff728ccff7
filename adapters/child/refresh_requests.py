"""Answers the refresh requests of one child, and bounds how many refresh tokens they may spend.

A child that the backend refused an old token gets the newer one at once. Only a request about the newest token costs a
refresh, and requests that wait for the same refresh cost one. A child that asks again and again would spend a refresh
token each time, so there is a budget.
"""

import asyncio
import math
from collections import deque

from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.child.failed_turns import Explanation
from authstate.adapters.child.held_token import HeldToken
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, RpcError
from authstate.engine.clock import within
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import AuthError, NotSignedIn, PermanentRefreshError, RecoveryExhausted
from authstate.engine.model.session import Authorization
from authstate.engine.ports import Clock

MAX_REFRESHES = 6
"""Refreshes that one child may cause within PERIOD: three times what a token of 30 seconds needs."""
PERIOD = 60.0
"""Seconds."""
ANSWER_WITHIN = 9.0
"""Seconds. A child gives up after 10."""
_WHILE_FAILING = 2.0  # seconds for the next request, while a refresh that has failed so far goes on
_NEEDS_LOGIN = (PermanentRefreshError, NotSignedIn, RecoveryExhausted)

_decode_params = wire.ParamsDecoder[wire.ChildRefreshParams](wire.ChildRefreshParams)


class RefreshRequests:
    """Answers `account/chatgptAuthTokens/refresh` for one child.

    Args:
        engine: started.
        held: what the child acts with.
        clock: times the answers and the budget.
    """

    def __init__(self, engine: AuthEngine, held: HeldToken, clock: Clock) -> None:
        self._engine = engine
        self.held = held
        self._clock = clock
        self._budget = RefreshBudget(clock)
        self._refreshes: set[asyncio.Task[None]] = set()  # one for each open request
        self._is_failing = False  # the last request timed out because the issuer could not be asked
        self.refusal: Explanation | None = None
        """Why the last request could not be answered with tokens; None when it could."""

    @property
    def is_open(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._refreshes)

    async def answer(self, params: Raw | None) -> ChatgptTokens | ExternalTokens:
        """Return newer tokens than the child holds.

        Raises:
            RpcError: there are none. The message says why and what to do, and so does `refusal`.

        Cancelling it does not cancel a refresh that others wait for.
        """
        previous = _decode_params(params).previous_account_id
        refresh = asyncio.create_task(self._refresh())
        self._refreshes.add(refresh)
        try:
            is_still_failing = self._is_failing and self._engine.refresh_fault is not None
            await within(self._clock, _WHILE_FAILING if is_still_failing else ANSWER_WITHIN, refresh)
            tokens = self._tokens_for(previous)
        except TimeoutError:
            fault = self._engine.refresh_fault
            self._is_failing = fault is not None
            why = str(fault) if fault is not None else "new tokens did not come in time: try again in a moment"
            raise self._refuse(why) from None
        except AuthError as error:
            raise self._refuse(str(error), needs_login=isinstance(error, _NEEDS_LOGIN)) from None
        finally:
            self._refreshes.discard(refresh)
        self.refusal, self._is_failing = None, False
        return tokens

    def close(self) -> None:
        """Cancel the open requests. A refresh that others wait for goes on. May be called again."""
        for refresh in self._refreshes:
            refresh.cancel()

    async def _refresh(self) -> None:
        """Let the engine hold another token than the one that the backend refused."""
        held = self.held.authorization
        if held is None:
            await self._engine.authorization()
            return
        is_newest = held.token == Authorization.of(self._engine.session).token
        if self.held.take_request() and is_newest:
            return
        is_alone = len(self._refreshes) == 1
        if is_newest and is_alone and (wait := self._budget.spend()) is not None:
            raise self._refuse(
                f"the app-server asked for new tokens {MAX_REFRESHES} times within {PERIOD:g} seconds, and the "
                f"backend refused each of them: wait {math.ceil(wait)} seconds, then try again. If it goes on, "
                "find out why the backend refuses this account"
            )
        await self._engine.recover(held)

    def _tokens_for(self, previous: str | None) -> ChatgptTokens | ExternalTokens:
        """The engine's tokens, if they are for the account that the child acts for and asked about."""
        session = self._engine.session
        credentials = session.credentials
        if not isinstance(credentials, ChatgptTokens | ExternalTokens):
            raise self._refuse("the account is signed in with an API key or a personal access token now: try again")
        authorization = Authorization.of(session)
        if previous is not None and previous != authorization.account_id:
            raise self._refuse("another workspace is signed in now: try again")
        if self.held.authorization is not None and not authorization.is_same_account_as(self.held.authorization):
            raise self._refuse("another account is signed in now: try again")
        self.held.update(authorization, by_answer=True)
        return credentials

    def _refuse(self, message: str, *, needs_login: bool = False) -> RpcError:
        self.refusal = Explanation(message, needs_login)
        return RpcError(INTERNAL_ERROR, message)


class RefreshBudget:
    """How many refreshes one child may still cause: MAX_REFRESHES within PERIOD."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: deque[float] = deque(maxlen=MAX_REFRESHES)

    def spend(self) -> float | None:
        """Spend one. Return None, or the seconds until there is one again."""
        now = self._clock.monotonic()
        if len(self._spent) == MAX_REFRESHES and (left := self._spent[0] + PERIOD - now) > 0:
            return left
        self._spent.append(now)
        return None
