"""The 401 recovery at work: what its steps do, and one recovery at a time for all requests that got a 401.

Which step follows which is in machines/recovery.py.
"""

import msgspec

from authstate.engine.flows.external_tokens import ExternalTokenRefresher
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.single_flight import SingleFlight, wait_shielded
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.machines.refresh_trace import AccessRefused, TraceStep
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.errors import AuthError, EngineClosed, RecoveryExhausted
from authstate.engine.model.events import RefreshReason, Subscriptions
from authstate.engine.model.session import Authorization, Session
from authstate.engine.model.states import AuthState

_MAX_RECOVERIES = 3  # of one request, while other processes keep storing tokens that are of no use


class TokenRecovery:
    """Recovers from a 401 by a plan. It implements `RecoveryActions`, which the plan's steps use.

    Args:
        plan: the 401 recovery, as a table and its steps.
        machine: holds the session.
        scheduler: renews the tokens of a managed login.
        external: renews external tokens.
        trace: gets each refused token.
    """

    def __init__(
        self,
        plan: RecoveryPlan,
        machine: AuthMachine,
        scheduler: RefreshScheduler,
        external: ExternalTokenRefresher,
        trace: Subscriptions[TraceStep],
    ) -> None:
        self._plan = plan
        self._machine = machine
        self._scheduler = scheduler
        self._external = external
        self._trace = trace
        self._flight = SingleFlight()
        self._is_closed = False

    async def recover(self, refused: Authorization) -> Authorization:
        """See `AuthEngine.recover`."""
        ensure_instance(refused, Authorization, "refused", "the Authorization that the request was sent with")
        session = self.session
        is_current = refused.generation == session.generation or refused.token == Authorization.of(session).token
        asks_parent = is_current and session.state is AuthState.EXTERNAL_TOKENS
        if asks_parent and refused.is_parents_answer:
            raise RecoveryExhausted(
                "the backend refused the new token of the parent application, too: see its log, then send the request "
                "again"
            )
        self._scheduler.note_refused(refused.token)
        self._trace.emit(AccessRefused(session.generation if is_current else refused.generation))
        for _ in range(_MAX_RECOVERIES):
            if not is_current and self._scheduler.is_usable():
                break
            await self._run()
            is_current = False
        newer = msgspec.structs.replace(Authorization.of(self.session), is_parents_answer=asks_parent)
        if newer.token == refused.token:
            raise RecoveryExhausted(
                "the backend refused the token, and there is no other: send the request again later"
            )
        return newer

    def close(self) -> None:
        """Cancel the recovery that is under way, and start no other. Its callers get RefreshInterrupted."""
        self._is_closed = True
        self._flight.cancel()

    # RecoveryActions

    @property
    def session(self) -> Session:
        """The current snapshot."""
        return self._machine.session

    async def reload(self) -> bool:
        """See `RecoveryActions`."""
        return await self._scheduler.reload()

    async def refresh(self) -> None:
        """See `RecoveryActions`."""
        if fault := self._scheduler.pause_reason():
            raise fault
        await self._scheduler.refresh(reason=RefreshReason.UNAUTHORIZED)

    async def ask_parent(self) -> None:
        """See `RecoveryActions`."""
        await self._external.ask()

    async def _run(self) -> None:
        """Recover from a 401 for the current tokens, or wait for the recovery that is under way. A cancelled caller
        does not cancel it.
        """
        if self._is_closed:
            raise EngineClosed
        generation = self.session.generation
        if error := await wait_shielded(self._flight.start_or_join(lambda: self._run_plan(generation))):
            raise error.without_traceback()

    async def _run_plan(self, refused_generation: int) -> AuthError | None:
        try:
            await self._plan.run(self, refused_generation)
        except AuthError as error:
            return error.without_traceback()
        return None
