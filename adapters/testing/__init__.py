"""Tools for testing code that uses authstate: a manual clock, an issuer in memory, a real issuer on loopback, a store
in memory, the contract of a store, a parent application, and tokens.

Each name is loaded on first use, so importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authstate.adapters.stores.memory import MemoryStore
    from authstate.adapters.testing.fake_authority import FakeAuthority
    from authstate.adapters.testing.fake_parent import NEVER, FakeParent
    from authstate.adapters.testing.jwt import make_jwt
    from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
    from authstate.adapters.testing.manual_clock import ManualClock
    from authstate.adapters.testing.store_contract import StoreContract
    from authstate.adapters.testing.tokens import make_external, make_tokens

__all__ = [
    "NEVER",
    "FakeAuthority",
    "FakeParent",
    "LoopbackIssuer",
    "ManualClock",
    "MemoryStore",
    "StoreContract",
    "make_external",
    "make_jwt",
    "make_tokens",
]

_MODULES = {
    "NEVER": "authstate.adapters.testing.fake_parent",
    "FakeAuthority": "authstate.adapters.testing.fake_authority",
    "FakeParent": "authstate.adapters.testing.fake_parent",
    "LoopbackIssuer": "authstate.adapters.testing.loopback_issuer",
    "ManualClock": "authstate.adapters.testing.manual_clock",
    "MemoryStore": "authstate.adapters.stores.memory",
    "StoreContract": "authstate.adapters.testing.store_contract",
    "make_external": "authstate.adapters.testing.tokens",
    "make_jwt": "authstate.adapters.testing.jwt",
    "make_tokens": "authstate.adapters.testing.tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
