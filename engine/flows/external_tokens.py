"""The question to the parent application that owns the tokens in external mode, and what its answer means."""

import asyncio
from collections import deque

from authstate.engine.clock import within
from authstate.engine.flows.refresh_scheduler import outcome
from authstate.engine.machines.auth import AuthMachine
from authstate.engine.model.credentials import ExternalTokens, Secret
from authstate.engine.model.errors import AuthError, InvalidCredentials, ParentUnavailable, TransitionRefused
from authstate.engine.model.events import RefreshFailed
from authstate.engine.model.listeners import Listeners
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, ExternalTokenSource

_REMEMBERED = 64  # access tokens that the backend refused
_REMEDY = "see its log, then send the request again"


class ExternalTokenRefresher:
    """Asks the parent for new external tokens, one question at a time for all callers.

    Args:
        parent: whom to ask; may be set later.
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
        self._question: asyncio.Task[AuthError | None] | None = None
        self._refused: deque[Secret] = deque(maxlen=_REMEMBERED)

    async def ask(self) -> None:
        """Return once the session has tokens of the parent's answer. A cancelled caller leaves the question alone.

        Raises:
            ParentUnavailable: no parent, an error, no answer in time, malformed tokens, those of another workspace, or
                a token that the backend refused before.
            TransitionRefused: the tokens in use are not the parent's.
            RefreshInterrupted: `close` came first.
        """
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._ask())
        if error := await outcome(self._question):
            raise error.again()

    def trust(self, tokens: ExternalTokens) -> None:
        """The parent passed these in with a login of its own: they are used, whatever was refused before."""
        while tokens.access_token in self._refused:
            self._refused.remove(tokens.access_token)

    def close(self) -> None:
        """Drop the question that is under way."""
        if self._question is not None:
            self._question.cancel()

    async def _ask(self) -> AuthError | None:
        asked = self._machine.session
        if asked.state is not AuthState.EXTERNAL_TOKENS:
            why = "no parent application owns the tokens in use: there is nothing to ask it for"
            return TransitionRefused(Trigger.TOKENS_REFRESHED, asked.state, why)
        assert isinstance(asked.credentials, ExternalTokens)
        self._refused.append(asked.credentials.access_token)
        if self.parent is None:
            return ParentUnavailable(
                "the tokens were refused, and there is no parent application to ask for new ones: pass new ones in"
            )
        account_id = asked.account.account_id if asked.account else None
        try:
            question = self.parent.request_tokens(previous_account_id=account_id)
            tokens = await within(self._clock, self._timeout, question)
            if self._machine.session is asked:
                self._ensure_usable(tokens)
                self._machine.fire(Trigger.TOKENS_REFRESHED, tokens)
        except TimeoutError:
            error: AuthError = ParentUnavailable(
                f"the parent application gave no new tokens within {self._timeout:g} seconds: {_REMEDY}"
            )
        except InvalidCredentials as malformed:
            error = ParentUnavailable(f"the parent application sent tokens that cannot be used: {malformed}")
        except AuthError as failed:
            error = failed.again()
        except Exception as fault:
            error = ParentUnavailable(f"the parent application could not be asked ({type(fault).__name__}): {_REMEDY}")
        else:
            return None
        self._listeners.emit(RefreshFailed(error, permanent=False))
        return error

    def _ensure_usable(self, tokens: ExternalTokens) -> None:
        """Refuse a token that the backend refused, before it is sent there again. Raises ParentUnavailable."""
        if tokens.access_token in self._refused:
            raise ParentUnavailable(
                "the parent application sent an access token again that the backend had refused, so it was not used: "
                f"{_REMEDY}"
            )
        if tokens.expires_at is not None and tokens.expires_at <= self._clock.now():
            # Not refused: the parent and the backend may agree on a time that this machine's clock does not have.
            self._listeners.warn(
                "parent_token_expired",
                "the parent application sent an access token that has expired by this machine's clock: see its log, "
                "and check the clock",
            )
