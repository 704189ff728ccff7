"""What the OAuth endpoints of a broker answer, for every server that offers them."""

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.oauth_messages import (
    OAuthAnswer,
    answer_revoked,
    answer_with,
    read_refresh,
    read_revocation,
)
from authstate.adapters.config.settings import TOKEN_PATH


async def answer_oauth(broker: Broker, path: str, body: bytes, content_type: str) -> OAuthAnswer:
    """Answer a POST to an OAuth endpoint.

    Args:
        broker: gives the tokens.
        path: `TOKEN_PATH`, or else `REVOKE_PATH`.
        body, content_type: of the request.

    Raises:
        OAuthRefusal: the request is refused. `answer_refused` has the answer.

    Cancelling it cancels no refresh.
    """
    if path == TOKEN_PATH:
        return answer_with(await broker.grants.refresh(read_refresh(body, content_type)), broker.clock.now())
    await broker.grants.revoke(read_revocation(body, content_type))
    return answer_revoked()
