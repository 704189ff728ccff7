"""Sends a lease handle to the broker that made it, and a refresh token to its issuer.

In a process that `authstate run` started, or in a sandbox with a lease, codex's variables name a broker as the token
endpoint. A refresh token must not take that way: the broker spends it under a lock that this process holds meanwhile.
"""

from authstate.engine.model.account import Account
from authstate.engine.model.errors import Delivery, IssuerUnavailable
from authstate.engine.model.lease_handle import is_lease
from authstate.engine.model.secret import Secret
from authstate.engine.ports import IdentifiesTokens, RefreshedTokens, TokenAuthority


class LeaseAwareAuthority:
    """A `TokenAuthority` for homes with a login and for homes with a lease.

    Args:
        issuer: takes refresh tokens.
        broker: takes lease handles. None if no broker is known.
    """

    def __init__(self, issuer: TokenAuthority, broker: TokenAuthority | None) -> None:
        self._issuer = issuer
        self._broker = broker

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """See `TokenAuthority`."""
        return await self._for(refresh_token).refresh(refresh_token)

    async def revoke(self, refresh_token: Secret) -> None:
        """See `TokenAuthority`."""
        await self._for(refresh_token).revoke(refresh_token)

    async def identify(self, token: Secret) -> Account:
        """See `IdentifiesTokens`. A broker has no personal access tokens."""
        return await self._issuer.identify(token) if isinstance(self._issuer, IdentifiesTokens) else Account()

    def _for(self, refresh_token: Secret) -> TokenAuthority:
        if not is_lease(refresh_token):
            return self._issuer
        if self._broker is None:
            raise IssuerUnavailable(
                "this home holds a lease, which only its broker accepts: set CODEX_REFRESH_TOKEN_URL_OVERRIDE and "
                "CODEX_REVOKE_TOKEN_URL_OVERRIDE as `authstate lease new` printed them",
                delivery=Delivery.REFUSED,
            )
        return self._broker
