"""A port for the loopback redirect: listen on it, or ask the login that uses it to stop.

The issuer redirects to two ports only. If another login of codex or authstate uses one, `GET /cancel` asks it to stop,
as codex does. Any other program is only identified, with a harmless `GET /`, and named in the error.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from authstate.adapters.network.loopback_server import SERVER_NAME
from authstate.adapters.network.loopback_sockets import IPV4, AddressTaken, listen_on
from authstate.adapters.oauth.issuer import displayable_text
from authstate.engine.model.errors import LoginFailed

PORTS: Final = (1455, 1457)

_ANSWER_WITHIN: Final = 1.0  # seconds, for a program on this machine
_FREE_WITHIN: Final = 3.0  # seconds that a login may take to release its port
_LOOK_EVERY: Final = 0.02
_LONGEST_ANSWER: Final = 16 * 1024


class PortsBusy(LoginFailed):
    """No port that the issuer redirects to is available. The message names the programs that use them."""


class _PortHolder(msgspec.Struct, frozen=True):
    """What the program on a port answered."""

    status: int
    server: str
    body: bytes

    @property
    def is_login(self) -> bool:
        """Whether it is a login of authstate, or one of codex, which is recognized by this answer."""
        if self.server == SERVER_NAME:
            return True
        return self.status == 404 and self.server.startswith("tiny-http") and self.body == b"Not Found"


async def open_port(ports: Sequence[int] = PORTS) -> socket.socket:
    """Listen on the first of these ports that is available, on 127.0.0.1 and [::1]. 0 is any free port.

    Another login that uses a port is ended. Takes up to 5 seconds for each port in use.

    Raises:
        PortsBusy: no port is available.

    Cancellation leaves no socket open. A login that was asked to stop may have ended.
    """
    reasons = []
    for port in ports:
        try:
            return listen_on(port)
        except AddressTaken as taken:
            reason = await _reclaim(port, taken)
            if isinstance(reason, socket.socket):
                return reason
        reasons.append(f"port {port} {reason}")
    raise PortsBusy(
        "the sign-in page cannot return to this computer: " + "; ".join(reasons) + ". End the program that uses "
        "the port, or sign in with a device code"
    )


async def _reclaim(port: int, taken: AddressTaken) -> socket.socket | str:
    """Take the port from another login that stops. Returns the reason if that is not possible."""
    where = "" if taken.address == IPV4 else f" on [{taken.address}]"
    holder = await _ask(taken.address, port, "/")
    if holder is None:
        return f"is not available{where} ({taken.reason}), and the program that uses it does not speak HTTP"
    if not holder.is_login:
        name = displayable_text(holder.server)
        server = f'a server named "{name}"' if name else "a server that is not a codex or authstate login"
        return f"is used{where} by {server}"
    await _ask(taken.address, port, "/cancel")
    try:
        async with asyncio.timeout(_FREE_WITHIN):
            other = taken
            while other.address == taken.address:
                try:
                    return listen_on(port)
                except AddressTaken as still:
                    other = still
                await asyncio.sleep(_LOOK_EVERY)
    except TimeoutError:
        return f"is used{where} by another login, which did not end within {_FREE_WITHIN:g} seconds"
    return await _reclaim(port, other)


async def _ask(address: str, port: int, path: str) -> _PortHolder | None:
    """Ask the program on the port with GET. Returns None if it does not answer in HTTP within a second."""
    import httpx  # most sign-ins find a free port

    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    body = bytearray()
    try:
        async with (
            asyncio.timeout(_ANSWER_WITHIN),
            httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
            client.stream("GET", f"http://{host}{path}") as response,
        ):
            async for part in response.aiter_raw():
                body += part
                if len(body) >= _LONGEST_ANSWER:
                    break
            return _PortHolder(response.status_code, response.headers.get("server", ""), bytes(body))
    except (OSError, httpx.HTTPError):  # TimeoutError is an OSError
        return None
