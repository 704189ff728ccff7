"""Checks of the tree itself: style, types, direction of imports, generated files."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import REPO

import authstate
from authstate import AuthEngine, testing
from authstate.adapters.assembly import EngineOptions
from authstate.adapters.cli.diagram_files import COVERAGE
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.files import generated_files
from authstate.adapters.tables.held_by import read_held_by
from authstate.engine.model import errors
from authstate.engine.version import VERSION

GENERATED = {".git", ".venv", "build", "__pycache__", ".hypothesis", "test-output", ".benchmarks"}
WORLD = {
    *("asyncio.subprocess", "ctypes", "filelock", "http", "httpx", "keyring", "os", "pathlib", "shutil", "signal"),
    *("socket", "ssl", "sqlite3", "structlog", "subprocess", "sys", "tempfile", "threading", "tomli", "tomllib"),
    "urllib",
}
ENGINE = ("version", "model", "machines", "ports", "clock", "flows", "engine", "pool", "__init__")
"""The parts of the engine, from its data up: a part imports from itself and from those before it."""
ADAPTERS = (
    *(
        "confidential",
        "logs",
        "io",
        "jsonrpc",
        "stores",
        "journal",
        "report",
        "postgres",
        "network",
        "http_clients",
        "httpx_auth",
    ),
    *("config", "vault", "oauth"),
    *("assembly", "loop_thread", "sync_engine", "broker", "database_broker", "testing", "sandbox", "app_server"),
    *("child", "proxy", "conformance", "tables", "cli", "package", "__init__"),
)
"""The parts of the adapters, in the same way. All of them may import from the engine."""


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


@pytest.mark.parametrize("checker", [("mypy",), ("pyright", "--pythonpath", sys.executable)], ids=lambda one: one[0])
@pytest.mark.timeout(1500)
def test_the_types_are_strict(checker: tuple[str, ...]) -> None:
    checked = subprocess.run([sys.executable, "-m", *checker], cwd=REPO, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.timeout(1500)
def test_every_public_symbol_has_a_known_type() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--verifytypes", "authstate"]
    found_first = Path(sys.executable).parent  # `--verifytypes` asks the python of the path
    environ = {**os.environ, "PATH": f"{found_first}{os.pathsep}{os.environ['PATH']}"}
    checked = subprocess.run([*command, "--ignoreexternal"], cwd=REPO, capture_output=True, text=True, env=environ)
    assert "Type completeness score: 100%" in checked.stdout, checked.stdout


def test_every_option_of_an_engine_can_be_given_to_open_engine() -> None:
    ours = set(EngineOptions.__annotations__) | {"store", "authority"}
    assert ours == set(inspect.signature(AuthEngine).parameters)


@pytest.mark.parametrize("path", python_files("engine"), ids=lambda path: path.stem)
def test_the_engine_knows_no_adapter_and_no_world(path: Path) -> None:
    found = set(imports(path))
    assert not {name for name in found if name.startswith("authstate.adapters")}
    assert not {name for name in found if name in WORLD or name.split(".")[0] in WORLD}


def test_every_part_has_its_place_in_the_order() -> None:
    for top, order in (("engine", ENGINE), ("adapters", ADAPTERS)):
        names = {
            path.stem for path in (REPO / top).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        assert names == set(order)


def test_a_part_imports_only_from_those_before_it() -> None:
    rank = {
        f"{top}.{name}": place
        for top, order in (("engine", ENGINE), ("adapters", ADAPTERS))
        for place, name in enumerate(order)
    }
    for importer, imported in module_graph().items():
        for target in imported:
            one, other = part_of(importer), part_of(target)
            if one.partition(".")[0] == other.partition(".")[0]:
                assert rank[other] <= rank[one], f"{importer} imports {target}"


def test_only_users_come_through_the_front_door() -> None:
    """The package `authstate` leads to every module, so a module that imports it would be part of a circle."""
    inside = [*python_files("engine"), *python_files("adapters")]
    assert [path for path in inside if "authstate" in imports(path) and path.name != "__main__.py"] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside of functions count, too: what is loaded late is no less known."""
    TopologicalSorter(module_graph()).prepare()


def test_the_graph_of_the_modules_holds_their_imports() -> None:
    graph = module_graph()
    assert "authstate.engine.ports" in graph["authstate.engine.engine"]
    assert "authstate.engine.engine" in graph["authstate.adapters.assembly"]
    assert "authstate.engine" not in graph["authstate.engine.engine"], "what `__init__` loads late is no import"


def module_graph() -> dict[str, set[str]]:
    """Every module of ours, and the modules of ours that it imports."""
    paths = {module_of(path): path for top in ("engine", "adapters") for path in python_files(top)}
    graph = {name: set(imports(path)) & (paths.keys() - {name}) for name, path in paths.items()}
    return {name: found - _packages_of(found) for name, found in graph.items()}


def _packages_of(found: set[str]) -> set[str]:
    """`from package import module` names the package, too, which is no import of what is in its `__init__`."""
    return {one for one in found if any(other.startswith(f"{one}.") for other in found)}


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(("authstate", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def part_of(module: str) -> str:
    """The part of the tree that a module belongs to, as `engine.flows`."""
    _, top, *rest = module.split(".")
    return f"{top}.{rest[0] if rest else '__init__'}"


def test_the_diagrams_are_current() -> None:
    folder = REPO / "diagrams"
    expected = generated_files(TABLES, TABLE_WORDS, read_held_by(folder / COVERAGE))
    ours = [path for path in folder.iterdir() if path.stem != "coverage"]  # the tests write that
    files = {path.name: path.read_text(encoding="utf-8") for path in ours}
    assert files.keys() == expected.keys()
    assert [name for name, text in files.items() if text != expected[name]] == [], "run `authstate diagram`"


@pytest.mark.parametrize("path", [*python_files("engine"), *python_files("adapters")], ids=lambda path: path.stem)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is long"


@pytest.mark.parametrize("package", [authstate, testing], ids=lambda package: package.__name__)
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
            with suppress(FileNotFoundError):  # of another test, which has removed it meanwhile
                found = [place for place in private if place in path.read_bytes()]
                assert not found, f"{path.relative_to(REPO)} holds {found}"


def test_the_changelog_begins_with_the_version() -> None:
    """After Keep a Changelog: what is not released yet may come first, then each version with its date."""
    text = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    versions = [heading for heading in headings if heading != "[Unreleased]"]
    assert headings[: len(headings) - len(versions)] in ([], ["[Unreleased]"])
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (unreleased|\d{4}-\d{2}-\d{2})", heading) for heading in versions)
    assert versions[0].startswith(f"[{VERSION}] - ")
    assert f"\n[{VERSION}]: https://" in text
    kinds = set(re.findall(r"^### (.*)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_error_has_a_remedy() -> None:
    page = (REPO / "docs" / "errors.md").read_text(encoding="utf-8")
    public = {name: getattr(authstate, name) for name in authstate.__all__}
    for name, found in {**dict(inspect.getmembers(errors)), **public}.items():
        if inspect.isclass(found) and issubclass(found, BaseException):
            assert re.search(rf"^\| `{name}`[^|]*\|[^|]+\|[^|]+\|$", page, re.M), (
                f"docs/errors.md has no row for {name}"
            )
    for reason in errors.RefreshDeadReason:
        assert f"| `{reason}` |" in page


@pytest.mark.parametrize("top", ["engine", "adapters"])
def test_every_file_that_the_code_names_is_there(top: str) -> None:
    """Docstrings and comments name other files; a file that moves takes its name along."""
    known = {path.name for folder in ("engine", "adapters", "tests") for path in python_files(folder)}
    for path in python_files(top):
        named = set(re.findall(r"\b[a-z_]+\.py\b", path.read_text(encoding="utf-8")))
        assert named <= known, f"{path.relative_to(REPO)} names {sorted(named - known)}"
