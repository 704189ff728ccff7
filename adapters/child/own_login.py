"""Finds a child that opened a login of its own although it was told to keep none, before it is sent the engine's.

It is told with `-c`. A file of the administrator wins over that, and this process cannot see such a file on another
machine or in a container (see pinned_store.py). The environment there can name a login, too.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import Confidential
from authstate.adapters.jsonrpc.peer import Peer, PeerClosed, RemoteError
from authstate.engine.clock import within
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import AuthstateError
from authstate.engine.model.session import Session
from authstate.engine.ports import Clock

_T = TypeVar("_T", bound=msgspec.Struct)
_LONGEST_KIND = 40  # characters
_ANSWER_WITHIN = 10.0  # seconds


class ChildHasOwnLogin(AuthstateError):
    """The child acts with a login of its own, and must not be sent the engine's. The message says what to do."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the app-server opened a login of its own ({_shown(kind)}) although it was told to keep none, so "
            "authstate gave it no tokens and ended it. Look where it runs: cli_auth_credentials_store in "
            "/etc/codex/managed_config.toml or /etc/codex/requirements.toml wins over authstate's setting, and the "
            "environment may name a login. Give the app-server a CODEX_HOME in which nobody signed in, or have that "
            "setting removed"
        )


class _Status(Confidential, frozen=True, rename="camel"):
    auth_method: str | None = None
    auth_token: str | None = None


class _AccountKind(msgspec.Struct):
    type: str = "unknown"


class _AccountRead(msgspec.Struct):
    account: _AccountKind | None = None


async def refuse_own_login(peer: Peer, session: Callable[[], Session], clock: Clock) -> Session | None:
    """Find out whether the child acts with a login of its own, before it is sent the engine's.

    Each request gets 10 seconds. A child that does not answer the first one counts as one without a login.

    Args:
        peer: the connection to the child.
        session: the engine's session.
        clock: times the answers.

    Returns:
        None when the child has no login. The engine's session when the child has kept the engine's API key from its
        last start: that is harmless, because a key cannot be spent.

    Raises:
        ChildHasOwnLogin: it acts with any other login.
    """
    try:
        kind = await within(clock, _ANSWER_WITHIN, login_kind(peer))
    except (PeerClosed, TimeoutError):
        kind = None
    if kind is None:
        return None
    ours = session()
    try:
        is_ours = await within(clock, _ANSWER_WITHIN, has_our_key(peer, ours.credentials))
    except (PeerClosed, TimeoutError):
        is_ours = False
    if not is_ours:
        raise ChildHasOwnLogin(kind)
    return ours


async def login_kind(peer: Peer) -> str | None:
    """The kind of login that the child acts with, as the child names it. None when it has none, or answers nonsense.

    Raises:
        PeerClosed: the child ended.
    """
    try:
        answer = await peer.request("getAuthStatus", {"includeToken": False, "refreshToken": False})
        return _decoded(answer, _Status).auth_method
    except RemoteError:
        pass
    try:
        account = _decoded(await peer.request("account/read", {"refreshToken": False}), _AccountRead).account
    except RemoteError:
        return None
    return None if account is None else account.type


async def has_our_key(peer: Peer, ours: Credentials | None) -> bool:
    """Whether the child acts with the API key that the engine holds.

    Raises:
        PeerClosed: the child ended.
    """
    if not isinstance(ours, ApiKey):
        return False
    try:
        answer = await peer.request("getAuthStatus", {"includeToken": True, "refreshToken": False})
    except RemoteError:
        return False
    return _decoded(answer, _Status).auth_token == ours.key.reveal()


def _decoded(answer: Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (ValueError, RecursionError):
        return kind()


def _shown(kind: str) -> str:
    return "".join(letter for letter in kind[:_LONGEST_KIND] if letter.isprintable())
