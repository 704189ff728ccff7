"""What the OAuth endpoints of a broker answer, for every server that offers them."""

from contextlib import suppress

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.oauth_errors import OAuthRefusal, RefusedClient
from authstate.adapters.broker.oauth_messages import (
    OAuthAnswer,
    answer_revoked,
    answer_with,
    read_refresh,
    read_revocation,
)
from authstate.adapters.broker.token_grants import PresentedToken
from authstate.adapters.config.settings import TOKEN_PATH
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.engine.model.secret import Secret


async def answer_oauth(broker: Broker, path: str, body: bytes, content_type: str) -> OAuthAnswer:
    """Answer a POST to an OAuth endpoint.

    Args:
        broker: gives the tokens.
        path: `TOKEN_PATH`, or else `REVOKE_PATH`.
        body, content_type: of the request.

    Raises:
        OAuthRefusal: the request is refused. `answer_refused` has the answer. `client` is set if it is known.

    Cancelling it cancels no refresh.
    """
    is_refresh = path == TOKEN_PATH
    presented = read_refresh(body, content_type) if is_refresh else PresentedToken(read_revocation(body, content_type))
    try:
        if is_refresh:
            return answer_with(await broker.grants.refresh(presented), broker.clock.now())
        await broker.grants.revoke(presented.token)
        return answer_revoked()
    except OAuthRefusal as refusal:
        refusal.client = await _client_of(broker, presented.token)
        raise


async def _client_of(broker: Broker, token: Secret) -> RefusedClient | None:
    """Return who presented a token. None if nobody is known. It looks for no unknown token."""
    with suppress(StoreUnavailable):
        if (handle := LeaseHandle.parse(token.reveal())) is not None:
            lease = await broker.leases.find(handle)
            return None if lease is None else RefusedClient(lease.account, lease.id)
        owner = await broker.accounts.owners.known(token)
        return None if owner is None else RefusedClient(owner.account)
    return None
