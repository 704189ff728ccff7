"""A process's way to the issuer. It stops between the last check and the write, where a pause cannot be noticed."""

import asyncio
from collections.abc import Callable

from model.simulation.issuer import SimAuthority

from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens

WRITE = "write to the issuer"
"""The name of the stop."""


class MachineAuthority(SimAuthority):
    """Checks whether a token may still be sent once its connection stands, as `HttpTokenAuthority` does."""

    paused: float = 0.0
    """Seconds for which the process stood still between the last check and the write."""

    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        """See `ChecksBeforeSending`."""
        _, connecting, _ = self._weather()
        await asyncio.sleep(connecting)
        ensure_may_send()
        checked = self._scheduler.now
        self._runner.pause(WRITE)
        self.paused = self._scheduler.now - checked
        return await self.refresh(refresh_token)
