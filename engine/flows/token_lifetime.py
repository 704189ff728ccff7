"""Refreshes a managed login early for somebody who needs a token that lasts."""

from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import PermanentRefreshError, TransientAuthError
from authstate.engine.model.events import RefreshReason
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.ports import Clock

_MAX_REFRESHES = 2  # the first one may bring tokens of another process, which last too short as well


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
        last so long is not asked again and again. Nor does it during the pause after a failed refresh. A token that has
        not expired is kept if a refresh is not possible.

        Raises:
            PermanentRefreshError, TransientAuthError: the access token has expired meanwhile.
        """
        for _ in range(_MAX_REFRESHES):
            if not self._is_short(seconds) or not self._scheduler.may_refresh_early():
                return
            try:
                await self._scheduler.refresh(reason=RefreshReason.MIN_LIFETIME)
            except (PermanentRefreshError, TransientAuthError):
                if self._scheduler.is_expired():
                    raise
                return

    def _is_short(self, seconds: float) -> bool:
        """Whether there may be an access token that lasts longer than this one, which lasts less than `seconds`."""
        tokens = self._machine.session.credentials
        if not isinstance(tokens, ChatgptTokens) or tokens.expires_at is None or not tokens.can_refresh:
            return False
        now = self._clock.now()
        is_new = tokens.last_refresh is not None and 0 <= now - tokens.last_refresh < self._settings.settle
        return tokens.expires_at - now < seconds and not is_new
