"""Revokes refresh tokens that a logout or a login replaced: in the background, as best effort. Nobody waits for it."""

import asyncio

from authstate.engine.model.credentials import ChatgptTokens, StaticCredentials
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Listeners
from authstate.engine.model.secret import Secret
from authstate.engine.ports import TokenAuthority


class Revocations:
    """Holds the revocations that are under way."""

    def __init__(self, authority: TokenAuthority, listeners: Listeners) -> None:
        self._authority = authority
        self._listeners = listeners
        self._tasks: list[asyncio.Task[None]] = []  # ordered, so that a simulated history is always the same

    def begin(self, replaced: ChatgptTokens | None, current: StaticCredentials | ChatgptTokens | None = None) -> None:
        """Revoke the refresh token of `replaced`, unless `current` still uses it. A failure is a warning."""
        if replaced is None or not replaced.can_refresh:
            return
        if isinstance(current, ChatgptTokens) and current.refresh_token == replaced.refresh_token:
            return
        task = asyncio.create_task(self._revoke(replaced.refresh_token))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    @property
    def are_under_way(self) -> bool:
        """Whether the issuer has not answered all of them yet."""
        return bool(self._tasks)

    async def close(self, grace: float) -> None:
        """Wait at most `grace` seconds for what is under way, then cancel it, with a warning for each."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
            self._warn(f"there was no answer within {grace:g} seconds")

    async def _revoke(self, refresh_token: Secret) -> None:
        try:
            await self._authority.revoke(refresh_token)
        except AuthError as error:
            self._warn(str(error))

    def _warn(self, why: str) -> None:
        self._listeners.warn(
            "not_revoked", f"the old refresh token could not be revoked, and a copy of it may still work: {why}"
        )
