"""Sign in with a browser: the person agrees on a page of the issuer, which redirects the browser to this computer.

    login = await start_browser_login(engine)
    ...open login.auth_url...
    await login.closed()
    login.attempt.state, login.attempt.message

The engine owns the attempt. It ends after 10 minutes, when it is cancelled, or when another sign-in or sign-out
replaces it. The port is then released. A browser that has returned by then is shown the outcome within seconds.

No secret stays in the browser. The code, which works once, and the state are exchanged, and the browser is redirected
to a page whose address contains neither.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs
from uuid import uuid4

from authstate.adapters.confidential import Confidential
from authstate.adapters.network.loopback_server import LoopbackServer, Request, Response
from authstate.adapters.oauth.authorization_request import CALLBACK_PATH, AuthorizationRequest
from authstate.adapters.oauth.browser_progress import BrowserProgress
from authstate.adapters.oauth.code_exchange import exchange_code
from authstate.adapters.oauth.issuer import Issuer, displayable_code, displayable_text
from authstate.adapters.oauth.issuer_errors import IssuerRequest, Outcome, verdict_of
from authstate.adapters.oauth.issuer_http import ISSUER_VARIABLE, IssuerHttp, host_of
from authstate.adapters.oauth.login_arguments import issuer_for
from authstate.adapters.oauth.redirect import pages
from authstate.adapters.oauth.redirect.pasted_callback import parameters_of
from authstate.adapters.oauth.redirect.port import PORTS, open_port
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
from authstate.engine.model.errors import AuthError, EngineClosed, LoginAttemptEnded, LoginFailed, strip_tracebacks
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock

CANCEL_PATH: Final = "/cancel"
OUTCOME_PATH: Final = "/done"

LINGER: Final = 3.0
"""Seconds that the browser has to fetch the page with the outcome."""

_FAULT: Final = "the login ended because of a bug in authstate: please report it"
_PROGRAM_ENDS: Final = "this login was ended: the program ends"
_WARM_AFTER: Final = 0.1  # seconds; a login that is cancelled at once loads nothing
_MAX_FIELDS: Final = 32

Parameters = Mapping[str, Sequence[str]]


class _Callback(Confidential, frozen=True):
    """The parameters of the redirect. They contain a code."""

    parameters: Parameters


class BrowserLogin:
    """A login that waits for the browser. Use `start_browser_login` to start one."""

    def __init__(
        self,
        engine: AuthEngine,
        issuer: Issuer,
        attempt: LoginAttempt,
        listener: socket.socket,
        *,
        clock: Clock | None,
        linger: float,
    ) -> None:
        self.attempt = attempt
        """Its progress and outcome."""
        self._engine = engine
        self._issuer = issuer
        self._clock = clock
        self._linger = linger
        self._http = IssuerHttp(issuer.network)
        self._server = LoopbackServer(listener, self._answer)
        self._question = AuthorizationRequest.new(self._server.port)
        self._workspaces = engine.policy.forced_workspaces
        self._callback: asyncio.Future[_Callback] = asyncio.get_running_loop().create_future()
        self._progress = BrowserProgress()
        self._error: AuthError | None = None
        self._signing = asyncio.create_task(self._sign_in())
        self._task = asyncio.create_task(self._run())
        attempt.when_ended(self._stop)

    @property
    def auth_url(self) -> str:
        """The page that the person opens. It contains the state: show it only to the person who signs in."""
        return self._question.url(self._issuer, self._workspaces)

    @property
    def port(self) -> int:
        """The port that the browser is redirected to."""
        return self._server.port

    async def closed(self) -> None:
        """Wait until the attempt is over and its port, sockets and tasks are released. Cancelling only ends the wait.

        A browser that returned has been shown the outcome by then, or did not fetch it within `LINGER` seconds.
        """
        await asyncio.wait([self._task])

    @strip_tracebacks
    def paste(self, text: str) -> None:
        """Complete the login with the address that a browser on another machine was redirected to.

        Args:
            text: the whole address, or its part with `code` and `state`; see `parameters_of`.

        Raises:
            NotTheCallback: the text is not that address. The login still waits, and another text may be pasted.
            LoginAttemptEnded: the browser has already returned, or the login is over.
        """
        parameters = parameters_of(text, self._question, self.port)
        if not self._progress.fire("address_pasted"):
            raise LoginAttemptEnded(
                self.attempt.message or "this sign-in has already been answered: wait until it is complete"
            )
        self._callback.set_result(_Callback(parameters))

    # The attempt

    async def _run(self) -> None:
        """Serve until the attempt is over and the browser was shown the outcome."""
        try:
            await self._server.start()
            await self.attempt.wait()
            await asyncio.wait([self._signing])
            self._progress.fire("settled")
            if self._server.is_listening:
                await self._progress.until_shown(self._linger)
        except asyncio.CancelledError:
            self.attempt.end("superseded", _PROGRAM_ENDS)
            raise
        finally:
            self.attempt.end("refused", _FAULT)
            self._signing.cancel()
            self._progress.fire("settled")
            await self._server.aclose()
            await self._http.aclose()

    async def _sign_in(self) -> None:
        """Wait for the redirect, exchange the code and store the tokens. The attempt is over when this returns."""
        try:
            await self._warm_up()
            code = _code_of(await self._callback, self._host)
            self.attempt.authorized()
            tokens = await exchange_code(
                self._issuer,
                code=code,
                redirect_uri=self._question.redirect_uri,
                code_verifier=self._question.code_verifier,
                http=self._http,
                clock=self._clock,
            )
            await self._engine.complete_login(self.attempt, tokens)
        except AuthError as error:
            self._error = error.without_traceback()
            self.attempt.end("refused", str(error))
        except asyncio.CancelledError:
            self.attempt.end("superseded", _PROGRAM_ENDS)
            raise
        finally:
            self.attempt.end("refused", _FAULT)

    async def _warm_up(self) -> None:
        """Load what the exchange needs while the person is busy. Unusable proxy settings end the login here."""
        await asyncio.wait([self._callback], timeout=_WARM_AFTER)
        if self._progress.state == "waiting":
            await asyncio.to_thread(self._http.warm_up, self._issuer.url, self._host)

    @property
    def _host(self) -> str:
        return host_of(self._issuer.url, ISSUER_VARIABLE)

    def _stop(self) -> None:
        """Stop when the attempt is over, unless the task that signs in ended it itself."""
        if self._progress.fire("attempt_ended"):
            self._callback.cancel()
            self._server.stop_listening()
        if asyncio.current_task() is not self._signing:
            self._signing.cancel()

    # The browser

    async def _answer(self, request: Request) -> Response:
        if request.path == CALLBACK_PATH:
            return await self._redirected(request)
        if request.path == CANCEL_PATH:
            return await self._cancel(request)
        if request.path == OUTCOME_PATH and self._progress.fire("page_shown"):
            return self._outcome().response()
        if request.path == "/favicon.ico":
            return Response(204)
        return pages.NOT_FOUND.response()

    async def _redirected(self, request: Request) -> Response:
        try:
            parameters = parse_qs(request.query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            return pages.WRONG_STATE.response()
        if not self._question.is_answered_by(parameters.get("state", ())):
            return pages.WRONG_STATE.response()
        if self._progress.fire("browser_returned"):
            self._callback.set_result(_Callback(parameters))
            await self._progress.until_over()
        elif self._progress.state != "ended":
            return pages.USED.response()
        if self._progress.state == "settled" and self._server.is_listening:
            return Response(303, headers={"Location": OUTCOME_PATH})
        return self._outcome().response()

    async def _cancel(self, request: Request) -> Response:
        """Cancel for a person who entered the address, or another login that needs the port; not for another site."""
        if request.is_foreign:
            return pages.NOT_FOUND.response()
        has_ended = False
        with suppress(EngineClosed):  # whose end has ended the attempt
            has_ended = await self._engine.cancel_login(self.attempt.login_id)
        self._progress.fire("port_wanted")
        return (pages.CANCELLED if has_ended else pages.NOTHING_TO_CANCEL).response()

    def _outcome(self) -> pages.Page:
        match self.attempt.state:
            case "succeeded":
                return pages.SUCCESS
            case "cancelled":
                return pages.CANCELLED
            case "expired":
                return pages.EXPIRED
            case "superseded":
                return pages.SUPERSEDED
            case _:
                code = self._error.code if isinstance(self._error, LoginFailed) else None
                return pages.failure(self.attempt.message or _FAULT, code)


async def start_browser_login(
    engine: AuthEngine,
    issuer: Issuer | None = None,
    *,
    ports: Sequence[int] | None = None,
    clock: Clock | None = None,
    linger: float = LINGER,
) -> BrowserLogin:
    """Start an attempt and wait for the browser on a loopback port. An open attempt is superseded.

    Args:
        engine: the engine to sign in.
        issuer: the issuer. Default: that of the environment (`Issuer.of()`).
        ports: the ports to try, in this order; 0 is any. Default: those of the issuer.
        clock: for the time that is stored with the tokens. Default: the system clock.
        linger: seconds that the browser has to fetch the page with the outcome.

    Raises:
        ExternalTokensActive, LoginMethodForbidden: refused; nothing changed.
        IssuerUnavailable: the issuer's URL is not valid; nothing changed.
        PortsBusy: no port is available, and the attempt is over.
        LoginAttemptEnded: the attempt was superseded while another login was asked to stop.
        ConfigError: there is no issuer given, and a variable of the environment has an invalid value.
        TypeError: an argument has another type.

    Cancelling the caller cancels the attempt.
    """
    issuer = issuer_for(engine, issuer)
    host_of(issuer.url, ISSUER_VARIABLE)
    attempt = await engine.begin_login(str(uuid4()), LoginFlow.BROWSER)
    opening = asyncio.ensure_future(open_port(ports or issuer.redirect_ports or PORTS))
    attempt.when_ended(opening.cancel)
    listener = await _listener_or_end(opening, attempt)
    return BrowserLogin(engine, issuer, attempt, listener, clock=clock, linger=linger)


async def _listener_or_end(opening: "asyncio.Task[socket.socket]", attempt: LoginAttempt) -> socket.socket:
    """Wait for the socket. Without one, the attempt is over."""
    try:
        listener = await opening
    except AuthError as error:
        attempt.end("refused", str(error))
        raise
    except asyncio.CancelledError:
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            opening.result().close()
        caller = asyncio.current_task()
        if attempt.end("cancelled", "the login was cancelled") or (caller is not None and caller.cancelling()):
            raise
        raise LoginAttemptEnded(attempt.message or "the login was ended before it began") from None
    except BaseException:
        attempt.end("refused", _FAULT)
        raise
    if not attempt.is_open:
        listener.close()
        raise LoginAttemptEnded(attempt.message or "the login was ended before it began")
    return listener


@strip_tracebacks
def _code_of(callback: _Callback, host: str) -> Secret:
    """Return the authorization code of the redirect.

    Raises:
        LoginFailed: the redirect has an error, or no code.
    """
    parameters = callback.parameters
    if "error" in parameters:
        code = displayable_code(parameters["error"][0])
        said = displayable_text(parameters.get("error_description", [None])[0])
        refusal = f"{host} refused the sign-in" + (f" with the error {code}" if code else "")
        if verdict_of(IssuerRequest.AUTHORIZATION, 0, code or "") is Outcome.DECLINED:  # the issuer may say why
            refusal = "the sign-in was declined on the issuer's page"
        raise LoginFailed(refusal + (f', which says "{said}"' if said else "") + ": start it again to sign in", code)
    codes = parameters.get("code", ())
    if len(codes) != 1 or not codes[0].strip():
        raise LoginFailed(f"{host} redirected the browser without an authorization code: start the sign-in again")
    return Secret(codes[0])
