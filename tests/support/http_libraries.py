"""httpx and httpx2, which have the same names and other classes: tests run with each."""

from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from anyio.from_thread import BlockingPortal

from authstate.engine.model.session import Authorization

LIBRARIES = (httpx, httpx2)

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
"""Runs a test with `library`: httpx and httpx2."""


def mocked(library: ModuleType, answer: Any, auth: Any, **options: Any) -> Any:
    """Return an asynchronous client whose requests `answer` answers."""
    return library.AsyncClient(transport=library.MockTransport(answer), auth=auth, **options)


def mocked_sync(library: ModuleType, answer: Any, auth: Any, **options: Any) -> Any:
    """Return a synchronous client whose requests `answer` answers."""
    return library.Client(transport=library.MockTransport(answer), auth=auth, **options)


class PortalEngine:
    """A `SyncAuthorizer`: an engine that runs in the event loop of a portal, for threads."""

    def __init__(self, engine: Any, portal: BlockingPortal) -> None:
        self._engine = engine
        self._portal = portal

    def fresh_authorization(self) -> Authorization | None:
        fresh: Authorization | None = self._engine.fresh_authorization()
        return fresh

    def authorization(self) -> Authorization:
        authorization: Authorization = self._portal.call(self._engine.authorization)
        return authorization

    def recover(self, refused: Authorization) -> Authorization:
        newer: Authorization = self._portal.call(self._engine.recover, refused)
        return newer
