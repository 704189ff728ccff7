"""`authstate token`: print a valid access token, or the API key, for a script."""

from authstate.adapters.cli.context import open_context
from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.running_broker import token_of_broker
from authstate.engine.model.errors import NotSignedIn


async def print_token(overrides: list[str]) -> ExitStatus:
    """Print the token that a request would be sent with. Refresh it first if it has expired. The home's broker does it,
    if one is running.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.

    Raises:
        ConfigError: the configuration cannot be used.
        AuthError: there is no valid token. When the store cannot be read, the error says so.
    """
    context = open_context(overrides)
    token = await token_of_broker(context)
    if token is not None:
        print(token)
        return ExitStatus.DONE
    async with context.engine as engine:
        try:
            authorization = await engine.authorization()
        except NotSignedIn:
            if engine.store_fault is not None:
                raise engine.store_fault from None
            raise
        print(authorization.token.reveal())
    return ExitStatus.DONE
