"""`authstate token`: print a valid token, for a script or as the credential helper of another program."""

import sys
import time

from authstate.adapters.cli.context import CommandContext, open_context
from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.running_broker import token_of_broker
from authstate.adapters.cli.token_formats import TokenAnswer, TokenFormat, TokenKind, format_token
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, NotSignedIn
from authstate.engine.model.events import Event, RefreshFailed
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

_ROUNDING = 1.0  # seconds


async def print_token(overrides: list[str], form: TokenFormat, min_lifetime: float) -> ExitStatus:
    """Print the token that a request would be sent with. Refresh it first if it has expired. The home's broker does it,
    if one is running.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.
        form: how to print it.
        min_lifetime: seconds that the token should last. If there is no such token now, a line on standard error says
            why, and the token is printed all the same.

    Raises:
        ConfigError: the configuration cannot be used.
        AuthError: there is no valid token, or it cannot be printed in this form. When the store cannot be read, the
            error says so. Nothing was printed.
    """
    context = open_context(overrides)
    answer, why_short = await token_of_broker(context, min_lifetime), "the broker has no longer one now"
    if answer is None:
        answer, why_short = await _own_answer(context, min_lifetime)
    sys.stdout.write(format_token(answer, form))
    left = None if answer.expires_at is None else answer.expires_at - time.time()
    if left is not None and left < min_lifetime - _ROUNDING:
        said = f"the token lasts {left:.0f} s, not the {min_lifetime:g} s of --min-lifetime: {why_short}"
        print_error(said, ExitStatus.DONE)
    return ExitStatus.DONE


async def _own_answer(context: CommandContext, min_lifetime: float) -> tuple[TokenAnswer, str]:
    """Return the token of the store, and why there is none that lasts longer. Raises AuthError: there is none."""
    faults: list[AuthError] = []

    def note(event: Event) -> None:
        if isinstance(event, RefreshFailed):
            faults.append(event.error)

    context.engine.subscribe(note)
    async with context.engine as engine:
        try:
            authorization = await engine.authorization(min_lifetime)
        except NotSignedIn:
            if engine.store_fault is not None:
                raise engine.store_fault from None
            if engine.session.failure is None and engine.session.credentials is None and (one := context.account_entry):
                raise NotSignedIn(one.signed_out_message) from None
            raise
        session = engine.session
    answer = TokenAnswer(
        token=authorization.token.reveal(),
        kind=TokenKind.API_KEY if session.state is AuthState.API_KEY else TokenKind.ACCESS_TOKEN,
        workspace_id=authorization.account_id,
        expires_at=authorization.expires_at,
    )
    return answer, str(faults[-1]) if faults else _why_short(session)


def _why_short(session: Session) -> str:
    """Why the access token of a session lasts no longer, although no refresh failed just now."""
    tokens = session.credentials
    if session.failure is not None:
        return session.failure.message
    if not isinstance(tokens, ChatgptTokens) or tokens.expires_at is None or tokens.last_refresh is None:
        return "there is no longer one now"
    if not tokens.can_refresh:
        return "this login has no refresh token to get a longer one with"
    return f"the issuer's tokens last {tokens.expires_at - tokens.last_refresh:.0f} s"
