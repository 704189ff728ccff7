"""What the definitions of the engine and the stores say, without running them."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import authstate.adapters.stores
import authstate.engine
from authstate.adapters.proxy.line_stream import LONGEST_HELD
from authstate.adapters.proxy.pending_requests import MAX_PENDING
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization, Failure, Session
from authstate.engine.pool import EnginePool, PoolSettings


def structs() -> Iterator[Any]:
    for package in (authstate.engine, authstate.adapters.stores):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            for name, value in vars(importlib.import_module(found.name)).items():
                if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == found.name:
                    yield pytest.param(value, id=name)


@pytest.mark.parametrize("struct", list(structs()))
def test_every_value_is_immutable(struct: type[msgspec.Struct]) -> None:
    """It is shared by tasks, processes and events: who wants another value makes one."""
    assert struct.__struct_config__.frozen


def test_what_a_value_is_unless_somebody_says_more() -> None:
    assert Failure("why") == Failure("why", reason=None, detail="", on_arrival=False)
    assert Session().generation == 0
    assert RefreshClaim("ab") == RefreshClaim(
        "ab", RefreshClaimState.FREE, at=0.0, holder="", sends=0, reason=None, detail="", account=""
    )
    plain = Authorization(Secret("x"), None, 0)
    assert (plain.user_id, plain.is_api_key, plain.is_parents_answer) == (None, False, False)


@pytest.mark.parametrize(
    ("method", "argument", "seconds"),
    [
        (AuthEngine.close, "grace", 30.0),
        (AuthEngine.check, "patience", 2.0),
        (EnginePool.close, "grace", 30.0),
        (EnginePool.drop, "grace", 30.0),
    ],
)
def test_how_long_a_call_may_take_unless_somebody_says_more(method: object, argument: str, seconds: float) -> None:
    assert inspect.signature(method).parameters[argument].default == seconds  # type: ignore[arg-type]


def test_the_numbers_of_the_refresh_protocol() -> None:
    """docs/architecture.md names them; another number is another product."""
    assert msgspec.structs.asdict(RefreshSettings()) == {
        "window": 300.0,
        "blocking": 30.0,
        "stale_after": 691_200.0,
        "settle": 60.0,
        "pause": 30.0,
        "patience": 2.0,
        "first_wait": 0.5,
        "longest_wait": 8.0,
        "total": 30.0,
        "rechecks": (0.0, 0.25, 0.75),
        "save_waits": (0.0, 0.1, 0.4),
        "parent_timeout": 10.0,
        "revoke_grace": 5.0,
    }


def test_the_numbers_of_a_pool() -> None:
    """docs/embedding.md names them."""
    numbers = {"most_open": 1000, "idle_after": 900.0, "refresh_gap": 1.0}
    assert msgspec.structs.asdict(PoolSettings()) == numbers


def test_how_much_wrap_remembers_and_holds() -> None:
    assert LONGEST_HELD == 67_108_864, "bytes of a line, which docs name as 64 MiB"
    assert MAX_PENDING == 65_536
