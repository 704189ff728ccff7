"""A child that opened a login of its own although it was told to keep none: seen before it is handed ours.

It was told so with `-c`. A file of the administrator wins over that, and on another machine or in a container that file
cannot be seen from here (see pinned_store.py). The environment there can name a login, too.
"""

from typing import TypeVar

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import Confidential
from authstate.adapters.jsonrpc.peer import Peer, RemoteError
from authstate.engine.model.credentials import ApiKey, Credentials

_Answer = TypeVar("_Answer", bound=msgspec.Struct)
_LONGEST_KIND = 40  # letters


class ChildHasOwnLogin(Exception):
    """The child acts with a login of its own, and must not be handed ours. The message says what to do."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the app-server opened a login of its own ({_shown(kind)}) although it was told to keep none, so "
            "authstate handed it nothing and ended it. Look where it runs: cli_auth_credentials_store in "
            "/etc/codex/managed_config.toml or /etc/codex/requirements.toml wins over authstate's setting, and the "
            "environment may name a login. Give the app-server a CODEX_HOME in which nobody signed in, or have that "
            "setting removed"
        )


class _Status(Confidential, frozen=True, rename="camel"):
    auth_method: str | None = None
    auth_token: str | None = None


class _Account(msgspec.Struct):
    type: str = "unknown"


class _AccountRead(msgspec.Struct):
    account: _Account | None = None


async def kind_of_login(peer: Peer) -> str | None:
    """The kind of login that the child acts with, before it was handed any, as it names it; None: it has none.

    What cannot be read counts as none.

    Raises:
        PeerClosed: the child ended.

    It waits as long as the child does not answer.
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


async def has_the_key(peer: Peer, ours: Credentials | None) -> bool:
    """Whether the child acts with the API key that we hold: it kept it from its last start, and nothing can be spent.

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


def _decoded(answer: Raw, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (ValueError, RecursionError):
        return kind()


def _shown(kind: str) -> str:
    return "".join(letter for letter in kind[:_LONGEST_KIND] if letter.isprintable())
