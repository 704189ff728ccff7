"""Tools for testing code that uses authstate: engines in each state, an issuer, a backend and a clock in memory, a real
issuer on loopback, faults, transcripts, the contract of a store, tokens, and hypothesis strategies.

Each name is loaded when it is used first. pytest finds the fixtures by itself.
"""

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, without the import
if TYPE_CHECKING:
    from authstate.adapters.stores.memory import MemoryStore
    from authstate.adapters.testing import strategies
    from authstate.adapters.testing.engines import EngineInState, Engines
    from authstate.adapters.testing.fake_authority import FakeAuthority
    from authstate.adapters.testing.fake_backend import FakeBackend
    from authstate.adapters.testing.fake_parent import NEVER, FakeParent
    from authstate.adapters.testing.faults import Faults
    from authstate.adapters.testing.histories import HistoryAction, HistoryPlayer
    from authstate.adapters.testing.jwt import make_jwt
    from authstate.adapters.testing.loopback_home import LoopbackHome
    from authstate.adapters.testing.loopback_issuer import LoopbackIssuer
    from authstate.adapters.testing.manual_clock import ManualClock
    from authstate.adapters.testing.store_contract import StoreContract
    from authstate.adapters.testing.tokens import make_external_tokens, make_tokens
    from authstate.adapters.testing.transcript import Transcript
else:
    from authstate._lazy_names import lazy_names

    _load, __dir__ = lazy_names(
        __name__,
        {
            "adapters.stores.memory": "MemoryStore",
            "adapters.testing.engines": "EngineInState Engines",
            "adapters.testing.fake_authority": "FakeAuthority",
            "adapters.testing.fake_backend": "FakeBackend",
            "adapters.testing.fake_parent": "NEVER FakeParent",
            "adapters.testing.faults": "Faults",
            "adapters.testing.histories": "HistoryAction HistoryPlayer",
            "adapters.testing.jwt": "make_jwt",
            "adapters.testing.loopback_home": "LoopbackHome",
            "adapters.testing.loopback_issuer": "LoopbackIssuer",
            "adapters.testing.manual_clock": "ManualClock",
            "adapters.testing.store_contract": "StoreContract",
            "adapters.testing.tokens": "make_external_tokens make_tokens",
            "adapters.testing.transcript": "Transcript",
            "": "strategies",
        },
    )

    def __getattr__(name):
        if name != "strategies":
            return _load(name)
        from importlib import import_module

        found = globals()[name] = import_module("authstate.adapters.testing.strategies")
        return found


__all__ = [
    "NEVER",
    "EngineInState",
    "Engines",
    "FakeAuthority",
    "FakeBackend",
    "FakeParent",
    "Faults",
    "HistoryAction",
    "HistoryPlayer",
    "LoopbackHome",
    "LoopbackIssuer",
    "ManualClock",
    "MemoryStore",
    "StoreContract",
    "Transcript",
    "make_external_tokens",
    "make_jwt",
    "make_tokens",
    "strategies",
]
