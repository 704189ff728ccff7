"""The package `authstate`: what `from authstate import ...` offers, and how its values and errors behave."""

# pyright: reportUnnecessaryTypeIgnoreComment=true
import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
from typing import Any

import msgspec
import pytest

import authstate
from authstate import (
    ApiKey,
    Authorization,
    AuthstateError,
    ChatgptTokens,
    Config,
    Environment,
    ExternalTokens,
    PersonalAccessToken,
    Policy,
    RefreshSettings,
    Secret,
    Session,
    StateChanged,
    Trigger,
    Warned,
)
from authstate.engine.version import VERSION
from authstate.testing import make_external_tokens, make_tokens

TOKENS = make_tokens()
VALUES: list[Any] = [
    ApiKey.parse("sk-canary-1"),
    PersonalAccessToken.parse("at-canary-2"),
    TOKENS,
    make_external_tokens(),
    TOKENS.account,
    Secret("canary-3"),
    Session(credentials=TOKENS),
    Authorization(Secret("canary-4"), "workspace", 3),
    StateChanged(Trigger.LOG_OUT, Session(credentials=TOKENS), Session()),
    Warned("code", "message"),
    Policy(),
    RefreshSettings(),
    Config(),
    Environment.read({"CODEX_HOME": ".", "CODEX_API_KEY": "sk-canary-5"}),
]


def in_new_process(program: str) -> str:
    """What a program prints that is the first to import anything."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_completion_and_help_list_every_public_name() -> None:
    assert set(authstate.__all__) <= set(dir(authstate))
    text = pydoc.plain(pydoc.render_doc(authstate))
    assert {name for name in authstate.__all__ if name not in text} == {"__version__"}, "help shows it as VERSION"
    assert authstate.__version__ == VERSION


def test_every_public_class_and_function_says_what_it_is_for() -> None:
    named = {name: getattr(authstate, name) for name in authstate.__all__}
    ours = {name: value for name, value in named.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert len(ours) > 100
    assert [name for name, value in ours.items() if not inspect.getdoc(value)] == []


def test_a_misspelt_name_is_an_error_for_people_and_type_checkers() -> None:
    with pytest.raises(ImportError, match="AuthEngin"):
        from authstate import AuthEngin  # type: ignore[attr-defined] # noqa: F401
    with pytest.raises(AttributeError, match="no attribute 'AuthEngin'"):
        _ = authstate.AuthEngin  # type: ignore[attr-defined]


def test_importing_the_package_loads_none_of_its_parts() -> None:
    program = "import sys; before = set(sys.modules); import authstate; print(*sorted(set(sys.modules) - before))"
    loaded = in_new_process(program).split()
    assert set(loaded) == {"authstate", "authstate._lazy_names", "authstate.engine", "authstate.engine.version"}


def test_the_engine_alone_loads_no_http_client_no_store_and_no_log() -> None:
    program = "import sys; from authstate import AuthEngine; print(*sorted(sys.modules))"
    loaded = {name.partition(".")[0] for name in in_new_process(program).split()}
    assert not loaded & {"httpx", "httpx2", "keyring", "filelock", "structlog", "tenacity"}


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "authstate", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"authstate {VERSION}\n")


def test_every_public_error_has_one_base() -> None:
    errors = [value for name in authstate.__all__ if is_error(value := getattr(authstate, name))]
    assert len(errors) > 30
    assert [error for error in errors if not issubclass(error, AuthstateError)] == []


def is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_can_be_copied(value: Any) -> None:
    assert copy.copy(value) == value
    assert copy.deepcopy(value) == value
    if isinstance(value, msgspec.Struct):
        assert msgspec.structs.replace(value) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_shows_no_secret_and_pickles_none(value: Any) -> None:
    assert "canary" not in f"{value!r} {value}"
    try:
        pickled = pickle.dumps(value)
    except TypeError as refused:
        assert "is not pickled" in str(refused)
    else:
        assert b"canary" not in pickled and TOKENS.access_token.reveal().encode() not in pickled


PLAIN: list[tuple[Any, dict[str, Any]]] = [
    (ApiKey, {"key": "sk-canary"}),
    (PersonalAccessToken, {"token": "at-canary"}),
    *(
        (ChatgptTokens, {**msgspec.structs.asdict(TOKENS), name: "canary"})
        for name in ("id_token", "access_token", "refresh_token")
    ),
    *(
        (ExternalTokens, {**msgspec.structs.asdict(make_external_tokens()), name: "canary"})
        for name in ("access_token", "id_token")
    ),
]


@pytest.mark.parametrize(("kind", "members"), PLAIN)
def test_text_in_the_place_of_a_secret_is_refused_with_what_to_use(kind: Any, members: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=rf"use {kind.__name__}\.(parse|read)") as refused:
        kind(**members)
    assert "canary" not in str(refused.value)
