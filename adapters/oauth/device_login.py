"""Sign in with a device code: the person types a short code into a page of the issuer, on any device.

    login = await start_device_login(engine)
    ...show login.verification_url, login.user_code and DEVICE_CODE_WARNING...
    await login.closed()
    login.attempt.state, login.attempt.message

The engine owns the attempt. It ends after 15 minutes, when it is cancelled, or when another sign-in or sign-out
replaces it. Polling then stops at once.
"""

import asyncio
from typing import Final
from uuid import uuid4

from authstate.adapters.oauth.device_endpoint import (
    DeviceApproval,
    DeviceCode,
    DeviceCodeExpired,
    DeviceEndpoint,
    HttpDeviceEndpoint,
    SlowDown,
)
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.login_arguments import issuer_for
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
from authstate.engine.model.errors import AuthError, IssuerUnavailable, LoginAttemptEnded
from authstate.engine.ports import Clock

DEVICE_CODE_WARNING: Final = (
    "Never give this code to anybody: whoever has it can sign in as you. "
    "Enter it only on the page above, and only if you started this sign-in yourself."
)

_FAULT: Final = "the login ended because of a bug in authstate: please report it"
_SLOWER: Final = 5.0  # seconds that each "slow down" adds to the interval, as RFC 8628 has it


class DeviceLogin:
    """A login that waits for the person. Made by `start_device_login`."""

    def __init__(
        self, engine: AuthEngine, attempt: LoginAttempt, code: DeviceCode, endpoint: DeviceEndpoint, clock: Clock
    ) -> None:
        self.attempt = attempt
        """Its progress and outcome."""
        self.trouble: str | None = None
        """Why the last poll failed; None if it did not. Polling continues."""
        self._engine = engine
        self._code = code
        self._endpoint = endpoint
        self._clock = clock
        self._task = asyncio.create_task(self._run())
        attempt.when_ended(self._stop)

    @property
    def verification_url(self) -> str:
        """The page where the person enters the code."""
        return self._code.verification_url

    @property
    def user_code(self) -> str:
        """The code. Show it only to the person who signs in."""
        return self._code.user_code

    async def closed(self) -> None:
        """Return once the attempt is over and its connections are closed. Cancellation ends the wait only."""
        await asyncio.wait([self._task])
        await self._endpoint.aclose()  # a task that was cancelled before its first step has not done it

    async def _run(self) -> None:
        try:
            approval = await self._approved()
            self.attempt.authorized()
            await self._engine.complete_login(self.attempt, await self._endpoint.exchange(approval))
        except DeviceCodeExpired as expired:
            self.attempt.end("timed_out", str(expired))
        except AuthError as error:
            self.attempt.end("refused", str(error))
        except asyncio.CancelledError:
            self.attempt.end("superseded", "this login was ended: the program ends")
            raise
        finally:
            self.attempt.end("refused", _FAULT)
            await self._endpoint.aclose()

    async def _approved(self) -> DeviceApproval:
        """Poll until the person has agreed."""
        interval = self._code.interval
        pause = interval
        while True:
            await self._clock.sleep(pause)
            pause = interval
            try:
                approval = await self._endpoint.poll(self._code)
            except IssuerUnavailable as fault:
                if isinstance(fault, SlowDown):
                    interval += _SLOWER
                else:
                    self.trouble = str(fault)
                pause = max(interval, fault.retry_after or 0.0)
                continue
            self.trouble = None
            if approval is not None:
                return approval

    def _stop(self) -> None:
        """Cancel the polling when the attempt ends, unless this task itself ended it."""
        if asyncio.current_task() is not self._task:
            self._task.cancel()


async def start_device_login(
    engine: AuthEngine,
    issuer: Issuer | None = None,
    *,
    endpoint: DeviceEndpoint | None = None,
    clock: Clock | None = None,
) -> DeviceLogin:
    """Start an attempt, get a code from the issuer, and start to poll. An open attempt is superseded.

    Args:
        engine: the engine to sign in.
        issuer: the issuer. Default: that of the environment (`Issuer.of()`).
        endpoint: replaces the HTTP endpoint.
        clock: measures the pauses between polls. Default: the system clock.

    Raises:
        ExternalTokensActive, LoginMethodForbidden: refused; nothing changed.
        DeviceCodeNotEnabled, LoginFailed, IssuerUnavailable: there is no code, and the attempt is over.
        LoginAttemptEnded: the attempt was superseded while the issuer was asked.
        ConfigError: there is no issuer given, and a variable of the environment has an invalid value.
        TypeError: an argument has another type.

    Cancelling the caller cancels the attempt.
    """
    issuer = issuer_for(engine, issuer)
    endpoint = endpoint or HttpDeviceEndpoint(issuer)
    attempt = await engine.begin_login(str(uuid4()), LoginFlow.DEVICE_CODE)
    asking = asyncio.ensure_future(endpoint.request())
    attempt.when_ended(asking.cancel)
    try:
        code = await _code_or_end(asking, attempt)
    finally:
        if not attempt.is_open:
            await endpoint.aclose()
    return DeviceLogin(engine, attempt, code, endpoint, clock or SystemClock())


async def _code_or_end(asking: "asyncio.Future[DeviceCode]", attempt: LoginAttempt) -> DeviceCode:
    """Wait for the code. Without one, the attempt is over."""
    try:
        code = await asking
    except AuthError as error:
        attempt.end("refused", str(error))
        raise
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if attempt.end("cancelled", "the login was cancelled") or (caller is not None and caller.cancelling()):
            raise
        raise _ended(attempt) from None
    except BaseException:
        attempt.end("refused", _FAULT)
        raise
    if not attempt.is_open:
        raise _ended(attempt)
    return code


def _ended(attempt: LoginAttempt) -> LoginAttemptEnded:
    return LoginAttemptEnded(attempt.message or "the login was ended before the issuer gave a code")
