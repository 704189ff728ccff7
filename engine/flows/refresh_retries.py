"""Sends one refresh token to the issuer, and repeats the request where that is safe.

    what became of a request      the request is repeated                 the token afterwards
    not sent                      within 30 seconds                       works as before
    refused unprocessed           when the issuer says, within 30 s       works as before
    refused for good              never                                   works as before
    unknown                       once, at once                           may be spent

An issuer that forgives a lost answer does so for a few seconds, so the one repeat comes at once. A later repeat could
look like a stolen token and cost the whole login.
"""

from asyncio import sleep
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, cast

from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.machines.refresh_trace import TokenAnswered, TokenSent, TraceStep
from authstate.engine.model.errors import AuthstateError, Delivery, IssuerUnavailable, NotSentInTime, RefreshInDoubt
from authstate.engine.model.events import RefreshOutcome, Subscriptions
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import ChecksBeforeSending, Clock, LimitsSending, RefreshedTokens, TokenAuthority

if TYPE_CHECKING:
    from tenacity import RetryCallState

_REPEATED = frozenset({Delivery.NOT_SENT, Delivery.NOT_PROCESSED, Delivery.UNKNOWN})


class RefreshProgress:
    """How far one refresh is. The refresh writes it; its owner reads it, and may ask the refresh to stop retrying.

    Args:
        on_retry: called before the wait for another attempt, with its number, the seconds until then, and why the last
            attempt failed.
    """

    def __init__(self, on_retry: Callable[[int, float, IssuerUnavailable], None] | None = None) -> None:
        self.is_uncancellable = False
        """A refresh token is being spent, or its answer is not stored yet: do not cancel the refresh."""
        self.last_fault: IssuerUnavailable | None = None
        """Why the last try failed; None before a try has failed."""
        self.is_stopping: bool = False
        self.attempts = 0
        """How often somebody was asked for new tokens."""
        self.outcome = RefreshOutcome.NOT_NEEDED
        """How the refresh ended, if it raised no error."""
        self._on_retry = on_retry

    def note_retry(self, wait: float, error: IssuerUnavailable) -> None:
        """Report that the last attempt failed, and that the next one follows after so many seconds."""
        if self._on_retry is not None:
            self._on_retry(self.attempts + 1, wait, error)

    def stop_retrying(self) -> None:
        """Let the refresh end with its current try: a login, a logout or the end of the program waits for it."""
        self.is_stopping = True


class RefreshRequest:
    """One refresh token on its way to the issuer. tenacity decides on repeats, and on nothing else."""

    def __init__(
        self,
        authority: TokenAuthority,
        clock: Clock,
        random: Random,
        settings: RefreshSettings,
        progress: RefreshProgress,
        limits: LimitsSending | None = None,
        trace: Subscriptions[TraceStep] | None = None,
    ) -> None:
        self._authority = authority
        self._trace = trace or Subscriptions[TraceStep]()
        self._limits = limits
        self._clock = clock
        self._random = random
        self._settings = settings
        self._progress = progress
        self._began = clock.monotonic()
        self._is_repeat = False
        self.is_lost: bool = False
        """The token may have been processed, and no answer came."""

    async def send(self, refresh_token: Secret) -> RefreshedTokens:
        """Send the token and return the issuer's answer.

        Raises:
            PermanentRefreshError, PartialRefresh: see `TokenAuthority.refresh`.
            RefreshInDoubt: no answer came, and the token may be spent.
            StoreBusy, StoreUnavailable: the store did not keep its lock for a repeat.
            IssuerUnavailable: no answer came, and the token works as before.
        """
        # A cancellation that came while the store wrote is delivered here: nothing is sent yet.
        await sleep(0)
        # Imported here: only a refresh needs it, and the app-server answers `initialize` before that.
        from tenacity import AsyncRetrying

        retrying = AsyncRetrying(
            retry=self._may_repeat,
            wait=self._pause,
            stop=self._is_over,
            before_sleep=self._note_retry,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            return await retrying(self._try_once, refresh_token)
        except IssuerUnavailable as error:
            if self.is_lost:
                raise RefreshInDoubt(f"{error}. The answer to the refresh was lost", is_new=True) from None
            raise

    async def _try_once(self, refresh_token: Secret) -> RefreshedTokens:
        self._is_repeat = self.is_lost
        await self._renew_limit()
        self._progress.is_uncancellable = True
        self._progress.attempts += 1
        fingerprint, attempt = fingerprint_of(refresh_token), self._progress.attempts
        self._trace.emit(TokenSent(fingerprint, attempt))
        try:
            answer = await self._ask(refresh_token)
        except AuthstateError as error:
            self._trace.emit(TokenAnswered(fingerprint, attempt, error.without_traceback()))
            if isinstance(error, IssuerUnavailable):
                self._progress.is_uncancellable = False
                self._progress.last_fault = error
                self.is_lost = self.is_lost or error.delivery is Delivery.UNKNOWN
            raise
        self._trace.emit(TokenAnswered(fingerprint, attempt))
        return answer

    async def _renew_limit(self) -> None:
        """Make sure that the token may be sent now. Raises StoreBusy or StoreUnavailable if it may not."""
        if self._limits is not None:
            try:
                self._limits.ensure_may_send()
            except NotSentInTime:
                await self._limits.renew()
                await sleep(0)  # as in `send`: a cancellation that came meanwhile

    async def _ask(self, refresh_token: Secret) -> RefreshedTokens:
        if self._limits is None:
            return await self._authority.refresh(refresh_token)
        if issubclass(type(self._authority), ChecksBeforeSending):  # a wrapper's own `refresh` is not bypassed
            checking = cast(ChecksBeforeSending, self._authority)
            return await checking.refresh_if(refresh_token, self._limits.ensure_may_send)
        self._limits.ensure_may_send()
        return await self._authority.refresh(refresh_token)

    def _note_retry(self, state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, IssuerUnavailable), "only these are repeated"
        self._progress.note_retry(state.upcoming_sleep, error)

    def _may_repeat(self, state: "RetryCallState") -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, IssuerUnavailable) and error.delivery in _REPEATED and not self._is_repeat

    def _pause(self, state: "RetryCallState") -> float:
        """Seconds before the next try. A lost request is repeated at once. Otherwise this is our own back-off, or the
        issuer's `Retry-After` if that is longer.
        """
        if self.is_lost:
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, IssuerUnavailable) else None
        wait = min(self._settings.first_wait * 2.0 ** (state.attempt_number - 1), self._settings.longest_wait)
        return max(asked or 0.0, wait * (0.5 + self._random.random() / 2))

    def _is_over(self, state: "RetryCallState") -> bool:
        spent = self._clock.monotonic() - self._began
        return self._progress.is_stopping or spent + state.upcoming_sleep > self._settings.total
