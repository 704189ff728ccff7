"""The two locks of an engine, and the order in which they are taken.

Everything that changes the session runs under one or both of them. A task that needs both takes `session` first. A
refresh takes only `store`, so a parent application can pass tokens in while a refresh runs.
"""

import asyncio


class EngineLocks:
    """Locks between the tasks of one engine. Processes exclude each other with the store's own lock."""

    def __init__(self) -> None:
        self.session: asyncio.Lock = asyncio.Lock()
        """Held by a login, a logout, or external tokens that are passed in: one at a time."""
        self.store: asyncio.Lock = asyncio.Lock()
        """Held by the task that may take the store's lock, or that adopts what is stored."""

    @property
    def is_any_held(self) -> bool:
        """Whether a task is about to change the session or what is stored."""
        return self.session.locked() or self.store.locked()
