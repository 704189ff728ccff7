"""The interactive logins of one client: browser and device code behind `account/login/start` and `cancel`.

The code of a login is imported when the first one starts. The client is told of the end of a login only after it was
told of its start: a login that ends before its start was answered makes that answer an error.
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
    """Starts and cancels interactive logins.

    Args:
        engine: started.
        issuer: signs the person in.
        client: the name of the client, for the issuer's pages and records; None when it is not known.
    """

    def __init__(self, engine: AuthEngine, issuer: "Issuer", client: Callable[[], str | None] = lambda: None) -> None:
        self._client = client
        self._engine = engine
        self._issuer = issuer
        self._open: set[asyncio.Task[None]] = set()
        self._announced: set[str] = set()

    async def start(self, request: wire.ChatgptLogin | wire.DeviceCodeLogin) -> object:
        """Start a login, which supersedes an open one. Returns the result for the wire.

        Raises:
            RpcError: -32600, the issuer has no device codes.
            AuthError: it could not be started; see `start_browser_login` and `start_device_login`.

        Cancelling it cancels the login.
        """
        issuer = self._issuer.for_client(self._client())
        if isinstance(request, wire.ChatgptLogin):
            from authstate.adapters.oauth.browser_login import start_browser_login

            browser = await start_browser_login(self._engine, issuer)
            return wire.ChatgptLoginResult(self._announce(browser), browser.auth_url)
        from authstate.adapters.oauth.device_endpoint import DeviceCodeNotEnabled
        from authstate.adapters.oauth.device_login import start_device_login

        try:
            device = await start_device_login(self._engine, issuer)
        except DeviceCodeNotEnabled as error:
            raise RpcError(INVALID_REQUEST, str(error)) from None
        return wire.DeviceCodeLoginResult(self._announce(device), device.verification_url, device.user_code)

    async def cancel(self, login_id: str) -> bool:
        """Cancel the login with this id, a UUID in any of its forms. Return whether it was open."""
        from uuid import UUID

        return await self._engine.cancel_login(str(UUID(login_id)))

    def ends(self, login_id: str) -> bool:
        """A login is over. Return whether the client was told of its start, and so is told of its end."""
        known = login_id in self._announced
        self._announced.discard(login_id)
        return known

    async def closed(self) -> None:
        """Return once every login is over and has released what it held. The engine ends them.

        Cancellation ends the wait only.
        """
        if self._open:
            await asyncio.wait(self._open)

    def _announce(self, login: "RunningLogin") -> str:
        """The id of a login whose start is about to be answered."""
        closing = asyncio.create_task(login.closed())
        self._open.add(closing)
        closing.add_done_callback(self._open.discard)
        if not login.attempt.is_open:
            raise LoginAttemptEnded(login.attempt.message or "the login was over before its start was answered")
        self._announced.add(login.attempt.login_id)
        return login.attempt.login_id
