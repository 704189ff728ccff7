"""Asks the parent application, which owns the tokens in external mode, for new ones, and judges its answer."""

from collections import deque
from functools import partial

from authstate.engine.clock import within
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.flows.shared_refresh import report_refresh
from authstate.engine.flows.single_flight import SingleFlight, wait_shielded
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.credentials import ExternalTokens
from authstate.engine.model.errors import AuthError, InvalidCredentials, ParentUnavailable, TransitionRefused
from authstate.engine.model.events import Listeners, RefreshFailed, RefreshOutcome, RefreshReason
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, ExternalTokenSource

_MAX_REFUSED = 64  # access tokens to remember that the backend refused
_REMEDY = "see its log, then send the request again"


class ExternalTokenRefresher:
    """Asks the parent for new external tokens, one question at a time for all callers.

    Args:
        parent: whom to ask. May be set later.
        timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        parent: ExternalTokenSource | None,
        machine: AuthMachine,
        clock: Clock,
        timeout: float,
        listeners: Listeners,
    ) -> None:
        self.parent = parent
        self._machine = machine
        self._clock = clock
        self._timeout = timeout
        self._listeners = listeners
        self._flight = SingleFlight()
        self._refused: deque[Secret] = deque(maxlen=_MAX_REFUSED)

    async def ask(self) -> None:
        """Return once the session has the parent's new tokens. Cancelling the caller does not cancel the question.

        Raises:
            ParentUnavailable: no parent, an error, no answer in time, malformed tokens, tokens of another workspace, or
                a token that the backend refused before.
            TransitionRefused: the tokens in use are not the parent's.
            RefreshInterrupted: `close` came first.
        """
        if error := await wait_shielded(self._flight.start_or_join(self._ask)):
            raise error.without_traceback()

    def allow(self, tokens: ExternalTokens) -> None:
        """Use these tokens even if the backend refused them before: the parent passed them in with a new login."""
        ensure_instance(tokens, ExternalTokens, "tokens", "ExternalTokens, as ExternalTokens.read makes them")
        while tokens.access_token in self._refused:
            self._refused.remove(tokens.access_token)

    def close(self) -> None:
        """Cancel the question that is under way."""
        self._flight.cancel()

    async def _ask(self) -> AuthError | None:
        asked = self._machine.session
        if asked.state is not AuthState.EXTERNAL_TOKENS:
            why = "no parent application owns the tokens in use, so there is nothing to ask it for"
            return TransitionRefused(Trigger.TOKENS_REFRESHED, asked.state, why)
        assert isinstance(asked.credentials, ExternalTokens)
        self._refused.append(asked.credentials.access_token)
        if self.parent is None:
            return ParentUnavailable(
                "the backend refused the tokens, and there is no parent application to ask for new ones: pass new ones "
                "in"
            )
        progress = RefreshProgress()
        question = partial(self._question, self.parent, asked, progress)
        reason = RefreshReason.UNAUTHORIZED
        return await report_refresh(self._machine, self._clock, self._listeners, reason, progress, question)

    async def _question(
        self, parent: ExternalTokenSource, asked: Session, progress: RefreshProgress
    ) -> AuthError | None:
        """Ask the parent, and use its tokens unless the session has changed meanwhile."""
        account_id = asked.account.account_id if asked.account else None
        progress.attempts += 1
        try:
            question = parent.request_tokens(previous_account_id=account_id)
            tokens = await within(self._clock, self._timeout, question)
            if self._machine.session is asked:
                self._ensure_usable(tokens)
                self._machine.fire(Trigger.TOKENS_REFRESHED, tokens)
                progress.outcome = RefreshOutcome.REFRESHED
        except TimeoutError:
            error: AuthError = ParentUnavailable(
                f"the parent application gave no new tokens within {self._timeout:g} seconds: {_REMEDY}"
            )
        except InvalidCredentials as malformed:
            error = ParentUnavailable(f"the parent application sent tokens that cannot be used: {malformed}")
        except AuthError as failed:
            error = failed.without_traceback()
        except Exception as fault:
            error = ParentUnavailable(f"the parent application could not be asked ({type(fault).__name__}): {_REMEDY}")
        else:
            return None
        self._listeners.emit(RefreshFailed(error, permanent=False))
        return error

    def _ensure_usable(self, tokens: ExternalTokens) -> None:
        """Refuse a token that the backend refused before. Raises ParentUnavailable."""
        if tokens.access_token in self._refused:
            raise ParentUnavailable(
                f"the parent application sent an access token that the backend had refused before: {_REMEDY}"
            )
        if tokens.expires_at is not None and tokens.expires_at <= self._clock.now():
            # It is used all the same: the clocks of the parent and the backend may differ from this machine's clock.
            self._listeners.warn(
                "parent_token_expired",
                "the parent application sent an access token that has expired by this machine's clock: see its log, "
                "and check the clock",
            )
