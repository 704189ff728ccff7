"""Real processes that start in a millisecond: everything is imported once, and then the process forks.

For scripts that are run by themselves, because a test runner is no process to fork: it has threads and measures.
"""

import asyncio
import hashlib
import os
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import filelock
import httpx
import tenacity

from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file import AuthJsonStore
from authstate.engine import AuthEngine, RefreshSettings
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.ports import TokenAuthority

IMPORTED_BEFORE_THE_FORK = (filelock, httpx, tenacity)


def fork(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a child process; returns the child's id. The child's status is 1 if it raises."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        asyncio.run(work())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    """Wait for a child; its exit status, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def engine_at(
    home: str,
    issuer: str,
    disk: Disk | None = None,
    around: Callable[[TokenAuthority], TokenAuthority] = lambda authority: authority,
) -> AuthEngine:
    """An engine on auth.json in `home`, with a real HTTP issuer. `around` may put something around the latter."""
    authority = around(HttpTokenAuthority(issuer, "client"))
    return AuthEngine(AuthJsonStore(home, disk=disk), authority, settings=RefreshSettings(rechecks=(0.0,)))


def name_of(credentials: Credentials | None) -> str:
    """A short name for the refresh token, the same that the loopback issuer's `refresh_tokens_sent` uses."""
    assert isinstance(credentials, ChatgptTokens), f"these are no managed tokens: {credentials!r}"
    return hashlib.sha256(credentials.refresh_token.reveal().encode()).hexdigest()[:12]
