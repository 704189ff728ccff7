"""`authstate token`: print a valid token, for a script or as the credential helper of another program."""

import sys
import time

from authstate.adapters.cli.context import CommandContext, open_context
from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.running_broker import token_of_broker
from authstate.adapters.cli.token_formats import TokenAnswer, TokenFormat, TokenKind, format_token
from authstate.engine.model.errors import NotSignedIn

_ROUNDING = 1.0  # seconds


async def print_token(overrides: list[str], form: TokenFormat, min_lifetime: float) -> ExitStatus:
    """Print the token that a request would be sent with. Refresh it first if it has expired. The home's broker does it,
    if one is running.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.
        form: how to print it.
        min_lifetime: seconds that the token should last. If the issuer gives no such token now, a line on standard
            error says so, and the token is printed all the same.

    Raises:
        ConfigError: the configuration cannot be used.
        AuthError: there is no valid token. When the store cannot be read, the error says so.
    """
    context = open_context(overrides)
    answer = await token_of_broker(context, min_lifetime) or await _own_answer(context, min_lifetime)
    left = None if answer.expires_at is None else answer.expires_at - time.time()
    if left is not None and left < min_lifetime - _ROUNDING:
        said = f"the token lasts {left:.0f} s, and not {min_lifetime:g}: the issuer gives no longer one now"
        print(f"authstate: {said}", file=sys.stderr)
    print(format_token(answer, form))
    return ExitStatus.DONE


async def _own_answer(context: CommandContext, min_lifetime: float) -> TokenAnswer:
    async with context.engine as engine:
        try:
            authorization = await engine.authorization(min_lifetime)
        except NotSignedIn:
            if engine.store_fault is not None:
                raise engine.store_fault from None
            raise
    return TokenAnswer(
        token=authorization.token.reveal(),
        kind=TokenKind.ACCESS_TOKEN if authorization.expires_at is not None else _kind_of(context),
        workspace_id=authorization.account_id,
        expires_at=authorization.expires_at,
    )


def _kind_of(context: CommandContext) -> TokenKind:
    from authstate.engine.model.states import AuthState

    is_static = context.engine.session.state is AuthState.API_KEY
    return TokenKind.API_KEY if is_static else TokenKind.ACCESS_TOKEN
