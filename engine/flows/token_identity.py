"""Finds out whose a personal access token is, before anybody receives it.

The token does not tell, and the store holds only the token. The owner is needed for the policy, for the header of a
request and for the account API. So the issuer is asked once for each token and process, when the token is first needed.
"""

import msgspec

from authstate.engine.clock import within
from authstate.engine.flows.single_flight import SingleFlight, wait_shielded
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import Credentials, PersonalAccessToken
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Listeners
from authstate.engine.ports import Clock, IdentifiesTokens, TokenAuthority


class TokenIdentity:
    """Knows the owner of the last personal access token.

    Args:
        machine: holds the session.
        authority: the issuer. If it cannot tell (`IdentifiesTokens`), the owner is an account without names.
        clock: times the pause.
        pause: seconds for which callers get the last error, instead of another request for the same token.
        listeners: are warned of each failure.
    """

    def __init__(
        self, machine: AuthMachine, authority: TokenAuthority, clock: Clock, pause: float, listeners: Listeners
    ) -> None:
        self._machine = machine
        self._authority = authority
        self._clock = clock
        self._pause = pause
        self._listeners = listeners
        self._flight = SingleFlight()
        self._known: PersonalAccessToken | None = None
        self._failed: tuple[PersonalAccessToken, AuthError] | None = None
        self._paused_until = float("-inf")

    @property
    def unidentified(self) -> PersonalAccessToken | None:
        """The personal access token of the session, if its owner is not known yet."""
        credentials = self._machine.session.credentials
        if isinstance(credentials, PersonalAccessToken) and credentials.account is None:
            return credentials
        return None

    @property
    def is_idle(self) -> bool:
        """Whether nobody asks the issuer, and no pause keeps anybody from it."""
        return self._flight.running is None and self._clock.monotonic() >= self._paused_until

    @property
    def fault(self) -> AuthError | None:
        """Why the owner of the token of the session is not known, as a new error. None if nobody asked."""
        token = self.unidentified
        if token is None or self._failed is None or self._failed[0] != token:
            return None
        return self._failed[1].without_traceback()

    def completed(self, stored: Credentials | None) -> Credentials | None:
        """Return what was read from the store, with the owner if it is the token whose owner is known."""
        is_known = isinstance(stored, PersonalAccessToken) and self._known and stored.token == self._known.token
        return self._known if is_known else stored

    async def identify(self, token: PersonalAccessToken) -> PersonalAccessToken:
        """Ask the issuer, and return the token with its owner.

        Raises:
            TokenRefused: the issuer does not accept it.
            IssuerUnavailable: the issuer cannot tell now.
        """
        authority = self._authority
        account = await authority.identify(token.token) if isinstance(authority, IdentifiesTokens) else Account()
        self._known = msgspec.structs.replace(token, account=account)
        return self._known

    async def ensure(self) -> None:
        """Find out the owner of the token of the session, if it is not known. All callers share one request.

        A policy may forbid the token then: nobody is signed in after that. Cancelling a caller does not cancel the
        request.

        Raises:
            TokenRefused, IssuerUnavailable: see `identify`. The session is unchanged.
        """
        token = self.unidentified
        if token is None:
            return
        if (fault := self.fault) is not None and self._clock.monotonic() < self._paused_until:
            raise fault
        if error := await wait_shielded(self._flight.start_or_join(lambda: self._identify(token))):
            raise error.without_traceback()

    async def check(self, patience: float) -> None:
        """Do what `ensure` does, for at most `patience` seconds. After that, the request continues.

        Raises nothing: what went wrong is in `fault`.
        """
        if self.unidentified is None:
            return  # within the same turn of the event loop: a read is answered before a later login is applied
        try:
            await within(self._clock, patience, self.ensure())
        except (AuthError, TimeoutError):
            return

    def close(self) -> None:
        """Cancel the request that is under way. Its callers get RefreshInterrupted."""
        self._flight.cancel()

    async def _identify(self, token: PersonalAccessToken) -> AuthError | None:
        try:
            known = await self.identify(token)
        except AuthError as error:
            fault = error.without_traceback()
            self._failed = token, fault
            self._paused_until = self._clock.monotonic() + self._pause
            self._listeners.warn("token_not_identified", str(fault))
            return fault
        if self._machine.session.credentials is token:
            self._machine.restore(known)
        return None
