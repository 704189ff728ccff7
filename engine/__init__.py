"""What authentication is: states, credentials, the refresh protocol and the 401 recovery. No I/O.

The names an embedder needs. They are imported when they are first used, so that a program which needs one of them does
not pay for all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authstate.engine.authorization import Authorization as Authorization
    from authstate.engine.core import AuthEngine as AuthEngine
    from authstate.engine.credentials import Account as Account
    from authstate.engine.credentials import ApiKey as ApiKey
    from authstate.engine.credentials import ChatgptTokens as ChatgptTokens
    from authstate.engine.credentials import ExternalTokens as ExternalTokens
    from authstate.engine.policy import Policy as Policy
    from authstate.engine.refresh import RefreshSettings as RefreshSettings
    from authstate.engine.session import Session as Session
    from authstate.engine.states import AuthState as AuthState

_HOMES = {
    "AuthEngine": "core",
    "Authorization": "authorization",
    "Account": "credentials",
    "ApiKey": "credentials",
    "ChatgptTokens": "credentials",
    "ExternalTokens": "credentials",
    "Policy": "policy",
    "RefreshSettings": "refresh",
    "Session": "session",
    "AuthState": "states",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
