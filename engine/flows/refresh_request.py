"""Sends one refresh token to the issuer, and repeats what may be repeated.

    what became of a request        it is sent again                       afterwards the token
    not sent                        within 30 seconds                      works as before
    refused unprocessed             when the issuer says, within 30 s      works as before
    refused, the next time, too     never                                  works as before
    unknown                         once, at once                          may be spent

Issuers that forgive a lost answer do so for seconds, so the one repeat comes at once. A second one later could be taken
for a stolen token, and cost the whole login.
"""

from random import Random
from typing import TYPE_CHECKING

from authstate.engine.model.credentials import Secret
from authstate.engine.model.errors import Delivery, IssuerUnavailable, RefreshInDoubt
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.ports import Clock, RefreshedTokens, TokenAuthority

if TYPE_CHECKING:
    from tenacity import RetryCallState

_REPEATED = frozenset({Delivery.NOT_SENT, Delivery.NOT_PROCESSED, Delivery.UNKNOWN})


class RefreshSender:
    """Sends refresh tokens, one after the other. tenacity decides on repeats, and on nothing else."""

    def __init__(self, authority: TokenAuthority, clock: Clock, random: Random, settings: RefreshSettings) -> None:
        self._authority = authority
        self._clock = clock
        self._random = random
        self._settings = settings
        self._began = 0.0
        self._is_repeat = False
        self.is_stopping = False
        """No further try: somebody waits."""
        self.is_uncancellable = False
        """A request is under way, or its answer is not stored yet. Whoever stores it ends this."""
        self.fault: IssuerUnavailable | None = None
        """Why the last try failed, if it did."""
        self.is_lost = False
        """Whether the token that was sent last may have been processed without an answer."""

    def begin(self) -> None:
        """A flight begins: nobody hurries it, and nothing has failed."""
        self.is_stopping = False
        self.fault = None

    async def send(self, refresh_token: Secret) -> RefreshedTokens:
        """What the issuer answers.

        Raises:
            PermanentRefreshError, PartialRefresh: see `TokenAuthority.refresh`.
            RefreshInDoubt: there is no answer, and the token may be spent.
            IssuerUnavailable: there is no answer, and the token works as before.
        """
        # Imported here: only a refresh needs it, and the app-server answers before that.
        from tenacity import AsyncRetrying

        self._began = self._clock.monotonic()
        self.is_lost = self._is_repeat = False
        retrying = AsyncRetrying(
            retry=self._may_repeat, wait=self._pause, stop=self._is_over, sleep=self._clock.sleep, reraise=True
        )
        try:
            return await retrying(self._attempt, refresh_token)
        except IssuerUnavailable as error:
            if self.is_lost:
                raise RefreshInDoubt(f"{error}. The answer to the refresh was lost", is_new=True) from None
            raise

    async def _attempt(self, refresh_token: Secret) -> RefreshedTokens:
        self._is_repeat = self.is_lost
        self.is_uncancellable = True
        try:
            return await self._authority.refresh(refresh_token)
        except IssuerUnavailable as error:
            self.is_uncancellable = False
            self.fault = error
            self.is_lost = self.is_lost or error.delivery is Delivery.UNKNOWN
            raise

    def _may_repeat(self, state: "RetryCallState") -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, IssuerUnavailable) and error.delivery in _REPEATED and not self._is_repeat

    def _pause(self, state: "RetryCallState") -> float:
        """None for the repeat of a lost request; else the pause that the issuer asked for, and never less than ours."""
        if self.is_lost:
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, IssuerUnavailable) else None
        wait = min(self._settings.first_wait * 2.0 ** (state.attempt_number - 1), self._settings.longest_wait)
        return max(asked or 0.0, wait * (0.5 + self._random.random() / 2))

    def _is_over(self, state: "RetryCallState") -> bool:
        spent = self._clock.monotonic() - self._began
        return self.is_stopping or spent + state.upcoming_sleep > self._settings.total
