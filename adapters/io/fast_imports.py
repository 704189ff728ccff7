"""Imports modules faster, for commands whose first answer somebody waits for."""

import gc
import sys
from _thread import RLock
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from typing import Any

OPENSSL = ("ssl", "asyncio.sslproto", "hashlib", "hmac", "secrets")
"""The modules that load OpenSSL when they are imported, and what asyncio needs them for."""


class paused_gc:
    """Pauses the garbage collector in a `with` block of imports, and then exempts what they created from it.

    Imported modules stay until the process ends. Scanning them again and again costs a tenth of the start-up time.
    """

    def __enter__(self) -> None:
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.freeze()
        gc.enable()


def load_late(*names: str) -> None:
    """Let modules of the standard library load when one of their names is used first, not when they are imported.

    asyncio imports OpenSSL, which is 4 MB and a tenth of the start-up time, before anything uses TLS. Call this before
    anything imports the modules. It does nothing for those that are imported already, or do not exist.
    """
    for name in names:
        spec = _find(name)
        if spec is not None and name not in sys.modules:
            sys.modules[name] = _late_module(spec)


def _find(name: str) -> ModuleSpec | None:
    """Find a module without importing its package."""
    package, _, _ = name.rpartition(".")
    found = PathFinder.find_spec(package) if package else None
    return PathFinder.find_spec(name, None if found is None else found.submodule_search_locations)


def _late_module(spec: ModuleSpec) -> Any:
    module: Any = module_from_spec(spec)
    lock = RLock()
    has_begun = False

    def load_and_get(attribute: str) -> Any:
        """Load the module, and return one of its attributes. Other threads wait for the end of it."""
        nonlocal has_begun
        with lock:
            if not has_begun:
                has_begun = True
                assert spec.loader is not None
                spec.loader.exec_module(module)
        try:
            return vars(module)[attribute]
        except KeyError:
            raise AttributeError(f"module {spec.name!r} has no attribute {attribute!r}") from None

    module.__getattr__ = load_and_get  # PEP 562: called for the names that the module does not have
    return module
