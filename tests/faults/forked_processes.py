"""Starts real processes within a millisecond, by fork: the parent has imported everything already.

Use it in scripts that run in a process of their own. A test runner cannot fork: it has threads and measures coverage.
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

from authstate import AuthEngine, RefreshSettings
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.ports import TokenAuthority

IMPORTED_BEFORE_THE_FORK = (filelock, httpx, tenacity)


def fork(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a child process.

    Args:
        work: called in the child; returns the coroutine.

    Returns:
        The id of the child. It exits with status 0, or with 1 after an exception, which it prints.
    """
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


def exit_status_of(child: int) -> int:
    """Wait for a child. Returns its exit status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def engine_at(
    home: str,
    issuer: str,
    disk: Disk | None = None,
    wrap: Callable[[TokenAuthority], TokenAuthority] = lambda authority: authority,
) -> AuthEngine:
    """An engine on auth.json in a home, with a real HTTP token endpoint.

    Args:
        home: the folder.
        issuer: the URL of the issuer.
        disk: the disk of the store, if it is not the real one.
        wrap: returns the token endpoint that the engine gets instead of the given one.
    """
    authority = wrap(HttpTokenAuthority(issuer, "client"))
    return AuthEngine(AuthJsonStore(home, disk=disk), authority, settings=RefreshSettings(rechecks=(0.0,)))


def token_digest(credentials: Credentials | None) -> str:
    """A short digest of the refresh token, the same as in `refresh_tokens_sent` of the loopback issuer."""
    assert isinstance(credentials, ChatgptTokens), f"not the tokens of a ChatGPT login: {credentials!r}"
    return hashlib.sha256(credentials.refresh_token.reveal().encode()).hexdigest()[:12]
