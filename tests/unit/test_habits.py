"""The habits of the house, kept by machine: style, types, direction of imports, generated files."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from authstate import engine
from authstate.adapters import testing
from authstate.adapters.app_server.handshake import VERSION
from authstate.adapters.assembly import EngineOptions
from authstate.engine import AuthEngine, errors
from authstate.engine.diagrams import render_all

REPO = Path(__file__).parents[2]
GENERATED = {".git", ".venv", "build", "__pycache__", ".hypothesis", "test-output", ".benchmarks"}
WORLD = {
    *("asyncio.subprocess", "ctypes", "filelock", "http", "httpx", "keyring", "os", "pathlib", "shutil", "signal"),
    *("socket", "ssl", "sqlite3", "structlog", "subprocess", "sys", "tempfile", "threading", "tomli", "tomllib"),
    "urllib",
}
LAYERS = (
    ("states", "session", "credentials", "errors", "events", "policy", "table", "claims", "ports", "settings"),
    ("authorization", "clock", "listeners", "open_claim", "sending"),
    ("machine", "refresh", "recovery", "login", "revocations"),
    ("upkeep", "parent"),
    ("stored_login", "doors", "shared_recovery"),
    ("core", "diagrams"),
    ("__init__",),
)
"""The engine from its data up: a module imports from its own layer and those before it."""
COMMAND_LINE = ("cli", "commands", "demo")


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (REPO / folder).rglob("*.py") if not GENERATED & set(path.parts))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_the_style_is_kept(command: tuple[str, ...]) -> None:
    checked = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=REPO, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_types_are_strict(tmp_path: Path) -> None:
    package = tmp_path / "authstate"
    package.mkdir()
    for name in ("engine", "adapters"):
        (package / name).symlink_to(REPO / name, target_is_directory=True)
    command = [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--namespace-packages"]
    checked = subprocess.run([*command, "authstate"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_option_of_an_engine_can_be_given_to_open_engine() -> None:
    ours = set(EngineOptions.__annotations__) | {"store", "authority"}
    assert ours == set(inspect.signature(AuthEngine).parameters)


@pytest.mark.parametrize("path", python_files("engine"), ids=lambda path: path.stem)
def test_the_engine_knows_no_adapter_and_no_world(path: Path) -> None:
    found = set(imports(path))
    assert not {name for name in found if name.startswith("authstate.adapters")}
    assert not {name for name in found if name in WORLD or name.split(".")[0] in WORLD}


@pytest.mark.parametrize("depth", range(len(LAYERS)))
def test_no_layer_of_the_engine_knows_those_above_it(depth: int) -> None:
    above = {f"authstate.engine.{name}" for layer in LAYERS[depth + 1 :] for name in layer}
    for name in LAYERS[depth]:
        assert not set(imports(REPO / "engine" / f"{name}.py")) & above, name


def test_every_module_of_the_engine_has_a_layer() -> None:
    assert sorted(name for layer in LAYERS for name in layer) == [path.stem for path in python_files("engine")]


def test_no_adapter_knows_the_command_line() -> None:
    outer = tuple(f"authstate.adapters.{name}" for name in COMMAND_LINE)
    for path in python_files("adapters"):
        if path.parent.name != "adapters" or not path.stem.startswith(COMMAND_LINE):
            assert not [name for name in imports(path) if name.startswith(outer)], path.name


def test_the_diagrams_are_current() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (REPO / "diagrams").iterdir()}
    assert files == render_all(), "run `authstate diagram`"


@pytest.mark.parametrize("path", [*python_files("engine"), *python_files("adapters")], ids=lambda path: path.stem)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is long"


@pytest.mark.parametrize("package", [engine, testing], ids=lambda package: package.__name__)
def test_a_package_shows_the_names_that_it_loads_at_their_first_use(package: ModuleType) -> None:
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    typed = {name.asname or name.name for block in tree.body if isinstance(block, ast.If) for name in _names(block)}
    assert typed and typed <= set(dir(package))
    for name in typed:
        assert getattr(package, name) is vars(package)[name]
    with pytest.raises(AttributeError, match=package.__name__):
        _ = package.nothing_of_this_name


def _names(block: ast.If) -> Iterator[ast.alias]:
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        yield from statement.names


def test_no_file_names_a_machine() -> None:
    private = [f"/{name}/".encode() for name in ("root", "work")]
    for folder, folders, names in os.walk(REPO):
        folders[:] = [name for name in folders if name not in GENERATED and not name.endswith(("_cache", ".egg-info"))]
        for name in names:
            path = Path(folder, name)
            if name == ".git" or name.startswith(".coverage") or path.suffix == ".pyc":
                continue
            found = [place for place in private if place in path.read_bytes()]
            assert not found, f"{path.relative_to(REPO)} holds {found}"


def test_the_version_is_one() -> None:
    """What clients are told is a constant, because asking the package metadata takes long."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION
    headings = re.findall(r"^## ([0-9.]+)", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == VERSION


def test_every_error_has_a_remedy() -> None:
    page = (REPO / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, Exception):
            assert f"| `{name}` |" in page
    for reason in errors.RefreshDeadReason:
        assert f"| `{reason}` |" in page
