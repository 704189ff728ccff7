"""The access token as a plain callable, for libraries that ask for their bearer token before each request.

    AsyncOpenAI(api_key=token_provider(engine))
    OpenAI(api_key=sync_token_provider(sync_engine))

Where a library takes an HTTP client, `EngineAuth` and `SyncEngineAuth` do more: they recover from a 401 and send the
account id.
"""

from collections.abc import Awaitable, Callable

from authstate.adapters.http_clients.authorizer import (
    Authorizer,
    SyncAuthorizer,
    ensure_async,
    ensure_may_wait,
    ensure_sync,
)
from authstate.engine.model.session import Authorization


def token_provider(engine: Authorizer) -> Callable[[], Awaitable[str]]:
    """Return a coroutine function that returns the access token or the API key, fresh at each call.

    A 401 for the token is not recovered, because the callable is not told of it. The next call returns the same token
    until it expires. The account id (`chatgpt-account-id`) is not sent.

    Args:
        engine: the engine, an `AuthEngine`.

    Returns:
        The callable. It returns the token as plain text. It raises what `AuthEngine.authorization` raises, and
        `InvalidCredentials` if no header can carry the token. Cancelling it does not cancel a refresh.

    Raises:
        TypeError: the engine is of another kind.
    """
    ensure_async(engine, "token_provider")

    async def provide_token() -> str:
        return _text(engine.fresh_authorization() or await engine.authorization())

    return provide_token


def sync_token_provider(engine: SyncAuthorizer) -> Callable[[], str]:
    """Return a function that returns the access token or the API key, fresh at each call. It blocks during a refresh.

    Args:
        engine: the engine, a `SyncAuthEngine`.

    Returns:
        The callable. See `token_provider`. It also raises `WrongEventLoop` if a refresh is necessary in a thread where
        waiting for it would never end, such as that of the engine.

    Raises:
        TypeError: the engine is of another kind.
    """
    ensure_sync(engine, "sync_token_provider")

    def provide_token() -> str:
        authorization = engine.fresh_authorization()
        if authorization is None:
            ensure_may_wait(engine)
            authorization = engine.authorization()
        return _text(authorization)

    return provide_token


def _text(authorization: Authorization) -> str:
    return authorization.headers()["Authorization"].removeprefix("Bearer ")
