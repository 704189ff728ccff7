"""One recovery at a time: all requests that got a 401 share it."""

import asyncio

from authstate.engine.flows.refresh_scheduler import RefreshTask, outcome
from authstate.engine.machines.recovery import Recoverable, RecoveryMachine, RecoveryPlan
from authstate.engine.model.errors import AuthError


class SharedRecovery:
    """Runs recoveries by a plan, one at a time.

    Args:
        plan: the 401 recovery, as a table and its steps.
    """

    def __init__(self, plan: RecoveryPlan) -> None:
        self._machine = RecoveryMachine(plan)
        self._recovering: RefreshTask | None = None

    async def run(self, engine: Recoverable) -> None:
        """Recover from a 401 for the current tokens, or wait for the recovery that is under way. A cancelled caller
        leaves it alone. Raises AuthError: the reason why there is nothing to send the request again with.
        """
        if self._recovering is None or self._recovering.done():
            self._recovering = asyncio.create_task(self._recover(engine, engine.session.generation))
        if error := await outcome(self._recovering):
            raise error.again()

    def cancel(self) -> None:
        """End the recovery that is under way; who waits for it gets RefreshInterrupted."""
        if self._recovering is not None:
            self._recovering.cancel()

    async def _recover(self, engine: Recoverable, refused_generation: int) -> AuthError | None:
        try:
            await self._machine.run(engine, refused_generation)
        except AuthError as error:
            return error.again()
        return None
