"""Refreshes a managed login early for somebody who needs a token that lasts."""

from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import PermanentRefreshError, TransientAuthError
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.ports import Clock


class TokenLifetime:
    """Makes an access token last, as far as the issuer allows it."""

    def __init__(
        self, machine: AuthMachine, scheduler: RefreshScheduler, clock: Clock, settings: RefreshSettings
    ) -> None:
        self._machine = machine
        self._scheduler = scheduler
        self._clock = clock
        self._settings = settings

    async def ensure(self, seconds: float) -> None:
        """Refresh if the access token expires within so many seconds.

        It does nothing while the tokens are younger than `RefreshSettings.settle` (60 s): an issuer whose tokens never
        last so long is not asked again and again. A token that has not expired is kept if a refresh is not possible.

        Raises:
            PermanentRefreshError, TransientAuthError: the access token has expired meanwhile.
        """
        tokens = self._machine.session.credentials
        if not isinstance(tokens, ChatgptTokens) or tokens.expires_at is None or not tokens.can_refresh:
            return
        now = self._clock.now()
        is_new = tokens.last_refresh is not None and 0 <= now - tokens.last_refresh < self._settings.settle
        if tokens.expires_at - now >= seconds or is_new:
            return
        try:
            await self._scheduler.refresh()
        except (PermanentRefreshError, TransientAuthError):
            if self._scheduler.is_expired():
                raise
