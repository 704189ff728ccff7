"""The interactive logins of one client: browser and device code behind `account/login/start` and `cancel`.

What a login takes is imported when the first one starts. The client hears of the end of a login only after it heard of
its beginning: a login that ends before its start was answered is told by that answer, which is an error.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from authstate.adapters.app_server import wire
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, RpcError
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import LoginAttemptEnded

if TYPE_CHECKING:
    from authstate.adapters.oauth.issuer import Issuer
    from authstate.adapters.oauth.running_login import RunningLogin


class InteractiveLogins:
    """Starts and cancels logins in which a person takes part.

    Args:
        engine: started.
        issuer: who signs in.
        client: the name of the client, for the issuer's pages and records; None when it is not known.
    """

    def __init__(self, engine: AuthEngine, issuer: "Issuer", client: Callable[[], str | None] = lambda: None) -> None:
        self._client = client
        self._engine = engine
        self._issuer = issuer
        self._holding: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    async def start(self, request: wire.ChatgptLogin | wire.DeviceCodeLogin) -> object:
        """Start a login; one that was open is superseded. Returns the result for the wire.

        Raises:
            RpcError: -32600, the issuer has no device codes.
            AuthError: it could not be started; see `start_browser_login` and `start_device_login`.

        Cancelling it cancels the login.
        """
        issuer = self._issuer.for_client(self._client())
        if isinstance(request, wire.ChatgptLogin):
            from authstate.adapters.oauth.browser_login import start_browser_login

            browser = await start_browser_login(self._engine, issuer)
            return wire.ChatgptLoginResult(self._tell(browser), browser.auth_url)
        from authstate.adapters.oauth.device_endpoint import DeviceCodeNotEnabled
        from authstate.adapters.oauth.device_login import start_device_login

        try:
            device = await start_device_login(self._engine, issuer)
        except DeviceCodeNotEnabled as error:
            raise RpcError(INVALID_REQUEST, str(error)) from None
        return wire.DeviceCodeLoginResult(self._tell(device), device.verification_url, device.user_code)

    async def cancel(self, login_id: str) -> bool:
        """Cancel the login of that name, a UUID in any of its forms. Tells whether it was open."""
        from uuid import UUID

        return await self._engine.cancel_login(str(UUID(login_id)))

    def ends(self, login_id: str) -> bool:
        """A login is over: whether the client knew of it, and so hears of it."""
        known = login_id in self._told
        self._told.discard(login_id)
        return known

    async def closed(self) -> None:
        """Return once every login is over and holds nothing any more. It is the engine that ends them.

        Cancellation ends the wait only.
        """
        if self._holding:
            await asyncio.wait(self._holding)

    def _tell(self, login: "RunningLogin") -> str:
        """The name of a login that the client is about to hear of."""
        holding = asyncio.create_task(login.closed())
        self._holding.add(holding)
        holding.add_done_callback(self._holding.discard)
        if not login.attempt.is_open:
            raise LoginAttemptEnded(login.attempt.message or "the login was over before its start was answered")
        self._told.add(login.attempt.login_id)
        return login.attempt.login_id
