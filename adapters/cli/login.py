"""`authstate login`: sign in with a browser, a device code, an API key or a personal access token."""

import argparse
import asyncio
import os
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from authstate.adapters.cli.context import CommandContext, open_context
from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.cli.hidden_input import hidden_input
from authstate.adapters.cli.progress import Countdown, fitted
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LIFETIME_SECONDS, LoginAttempt
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken, StaticCredentials
from authstate.engine.model.errors import AuthError, TokenRefused
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

if TYPE_CHECKING:
    from authstate.adapters.cli.browser import BrowserOpening
    from authstate.adapters.cli.pasted_lines import PastedLines
    from authstate.adapters.oauth.browser_login import BrowserLogin
    from authstate.adapters.oauth.issuer import Issuer
    from authstate.adapters.oauth.running_login import RunningLogin

_STATUSES = {
    "succeeded": ExitStatus.DONE,
    "failed": ExitStatus.LOGIN_REFUSED,
    "expired": ExitStatus.LOGIN_EXPIRED,
    "cancelled": ExitStatus.LOGIN_CANCELLED,
    "superseded": ExitStatus.LOGIN_CANCELLED,
}
_TICK = 1.0  # seconds
_LONGEST_SECRET = 65536  # bytes
_ON_ANOTHER_MACHINE = (
    "If the browser is on another machine, it ends on a localhost page that does not load. Copy the whole address of "
    "that page, paste it here and press Enter. What you paste is not shown."
)


class LoginFlow(StrEnum):
    """How to sign in."""

    AUTOMATIC = "automatic"
    """With a browser, or with a device code if no browser can be opened."""
    URL_ONLY = "no-browser"
    """With a browser that the person opens, on this machine or another one."""
    DEVICE_CODE = "device"


def read_api_key() -> ApiKey:
    """Read an API key from standard input. At a terminal, ask for it and do not show it.

    Raises:
        InvalidCredentials: the text is not an API key.
    """
    return ApiKey.parse(_read_secret("API key"))


def read_access_token() -> PersonalAccessToken:
    """Read a personal access token in the same way.

    Raises:
        InvalidCredentials: the text is not a personal access token.
    """
    return PersonalAccessToken.parse(_read_secret("Personal access token"))


def _read_secret(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.buffer.read(_LONGEST_SECRET).decode("utf-8", "replace")
    from getpass import getpass

    try:
        return getpass(f"{name} (it is not shown): ")
    except EOFError:
        return ""


def method_of(options: argparse.Namespace) -> LoginFlow | StaticCredentials:
    """Return how to sign in, or the secret to sign in with, which is read now. See `login_arguments`.

    Raises:
        InvalidCredentials: what was read is neither a key nor a token.
    """
    if options.with_api_key:
        return read_api_key()
    if options.with_access_token:
        return read_access_token()
    if options.device:
        return LoginFlow.DEVICE_CODE
    return LoginFlow.URL_ONLY if options.no_browser else LoginFlow.AUTOMATIC


async def sign_in_with_secret(overrides: list[str], secret: StaticCredentials) -> int:
    """Store an API key or a personal access token. The issuer is asked whose the token is, as by codex.

    Returns:
        DONE, or LOGIN_REFUSED if the issuer does not accept the token.

    Raises:
        ConfigError: the configuration is invalid.
        PolicyViolation, IssuerUnavailable, StoreUnavailable: nothing was changed.
    """
    context = open_context(overrides, acts_with_key=False)
    async with context.engine as engine:
        try:
            await engine.use_api_key(secret)
        except TokenRefused as error:
            return print_error(str(error), ExitStatus.LOGIN_REFUSED)
        account = engine.session.account
    choice = context.account
    to_account = "" if choice is None or choice.is_home else f" to the account {choice.name}"
    what = "an API key" if account is None else f"a personal access token as {account}"
    print(printable(f"Signed in{to_account} with {what}, stored in {context.place}."))
    _warn_of_environment(context)
    return ExitStatus.DONE


async def sign_in(overrides: list[str], flow: LoginFlow) -> int:
    """Sign a person in, show the time left, and print who is signed in.

    Returns:
        DONE, LOGIN_REFUSED, LOGIN_EXPIRED or LOGIN_CANCELLED.

    Raises:
        ConfigError: the configuration is invalid.
        AuthError: the login could not be started; nothing was changed.

    Cancelling it (Ctrl-C) cancels the login. If the new credentials are being stored at that moment, the login is
    completed and its result printed.
    """
    context = open_context(overrides, acts_with_key=False)
    choice = context.account
    if choice is not None and not choice.is_home:
        print(f"This signs in to the account {choice.name}.", flush=True)
    async with context.engine as engine:
        current = _login_of(engine.session)
        if current is not None:
            print(printable(f"You are signed in {current}. A new sign-in replaces this."), flush=True)
        try:
            attempt = await run_login(context.issuer, engine, flow)
        except asyncio.CancelledError:
            print_error("the sign-in was cancelled; nothing was changed", ExitStatus.INTERRUPTED)
            raise
        session = engine.session
    if attempt.state != "succeeded":
        status = report_failure(attempt)
        current = _login_of(session)
        return status if current is None else print_error(f"you are still signed in {current}", status)
    from authstate.adapters.cli.status import as_text

    print(as_text(session, context.place, [], choice=choice))
    _warn_of_environment(context)
    return ExitStatus.DONE


def report_failure(attempt: LoginAttempt) -> int:
    """Print why a login did not succeed, and return the exit status."""
    return print_error(attempt.message or f"the sign-in {attempt.state}", _STATUSES[attempt.state])


def _login_of(session: Session) -> str | None:
    """Return how somebody is signed in, as the end of "you are signed in". None if nobody is."""
    if isinstance(session.credentials, PersonalAccessToken):
        return "with a personal access token"
    if session.state is AuthState.API_KEY:
        return "with an API key"
    return f"as {session.account}" if session.state is AuthState.CHATGPT else None


def _warn_of_environment(context: CommandContext) -> None:
    """Name what is set in the environment and wins over the login."""
    from authstate.adapters.config.unmanaged_logins import find_in_environment

    if other := find_in_environment(os.environ):
        print(f"codex uses {other} instead of the stored login: unset it to use the new sign-in.", file=sys.stderr)
    if context.environment.api_key is not None:
        print("CODEX_API_KEY is set and wins over the stored login: unset it to use the new sign-in.", file=sys.stderr)


async def run_login(issuer: "Issuer", engine: AuthEngine, flow: LoginFlow) -> LoginAttempt:
    """Start a login, show the person what to do, wait until it is over, and return the attempt.

    Raises:
        AuthError: it could not be started.

    Cancelling it cancels the login, unless its tokens are being stored: then it returns the attempt.
    """
    if flow is LoginFlow.AUTOMATIC:
        from authstate.adapters.cli.browser import why_no_browser

        reason = why_no_browser(os.environ)
        if reason is not None:
            print(f"No browser can be opened here ({reason}): signing in with a device code instead.")
            print("Use --no-browser to get a URL for a browser on this machine or on another one.")
            flow = LoginFlow.DEVICE_CODE
    if flow is LoginFlow.DEVICE_CODE:
        with hidden_input(sys.stdin):
            return await _with_device_code(issuer, engine)
    return await _with_browser(issuer, engine, opens=flow is LoginFlow.AUTOMATIC)


async def _with_device_code(issuer: "Issuer", engine: AuthEngine) -> LoginAttempt:
    from authstate.adapters.oauth.device_login import DEVICE_CODE_WARNING, start_device_login
    from authstate.adapters.oauth.issuer_http import ISSUER_VARIABLE, host_of

    countdown = Countdown(sys.stdout, "Waiting for you to enter the code")
    countdown.prepare(f"Asking {host_of(issuer.url, ISSUER_VARIABLE)} for a code. Ctrl-C cancels.")
    try:
        login = await start_device_login(engine, issuer)
    finally:
        countdown.clear()
    print(
        f"\n1. Open this page on any device, and sign in:\n\n     {login.verification_url}\n"
        f"\n2. Enter this code there:\n\n     {login.user_code}\n\n{fitted(DEVICE_CODE_WARNING, sys.stdout)}\n",
        flush=True,
    )
    return await _wait(engine, login, countdown)


async def _with_browser(issuer: "Issuer", engine: AuthEngine, *, opens: bool) -> LoginAttempt:
    from authstate.adapters.oauth.browser_login import start_browser_login

    login = await start_browser_login(engine, issuer)
    countdown = Countdown(sys.stdout, "Waiting for your browser")
    where = "If your browser does not open by itself, open this URL:" if opens else "Open this URL in a browser:"
    print(f"\n{where}\n\n{login.auth_url}\n", flush=True)
    paste = None
    if sys.stdin is not None and sys.stdin.isatty():
        from authstate.adapters.cli.pasted_lines import PastedLines

        paste = PastedLines(sys.stdin.fileno(), lambda line: _paste(login, line, countdown))
        print(f"{fitted(_ON_ANOTHER_MACHINE, sys.stdout)}\n", flush=True)
    opening = None
    if opens:
        from authstate.adapters.cli.browser import BrowserOpening, why_browser_variable_unusable

        if fault := why_browser_variable_unusable(os.environ):
            print_error(f"{fault}; trying another browser", ExitStatus.DONE)
        opening = BrowserOpening(login.auth_url)
        opening.start()
    return await _wait(engine, login, countdown, opening, paste)


def _paste(login: "BrowserLogin", line: str, countdown: Countdown) -> None:
    """Use a pasted address, or print why it cannot be used. The address is never shown."""
    countdown.clear()
    try:
        login.paste(line)
    except AuthError as error:
        print_error(str(error), ExitStatus.DONE)


async def _wait(
    engine: AuthEngine,
    login: "RunningLogin",
    countdown: Countdown,
    opening: "BrowserOpening | None" = None,
    paste: "PastedLines | None" = None,
) -> LoginAttempt:
    """Show the time left and read pasted lines, until the login is over."""
    attempt = login.attempt
    end = time.monotonic() + LIFETIME_SECONDS[attempt.flow]
    closing = asyncio.ensure_future(login.closed())
    try:
        while not closing.done():
            if paste is not None:
                paste.look()
            trouble = getattr(login, "trouble", None)
            if opening is not None and opening.failed:
                trouble = "no browser opened: open the URL yourself"
            countdown.show(end - time.monotonic(), trouble)
            await asyncio.wait([closing], timeout=_TICK)
    except asyncio.CancelledError:
        await engine.cancel_login(attempt.login_id)
        await closing
        if attempt.state != "succeeded":
            raise
    finally:
        if paste is not None:
            paste.close()
        countdown.clear()
    return attempt
