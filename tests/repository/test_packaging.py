"""What is published: the sdist holds the whole project, the wheel holds the package and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.paths import REPO

from authstate.engine.version import VERSION

GENERATED = {"__pycache__", ".hypothesis", ".pytest_cache", "test-output", ".benchmarks"}
WHOLE = ("engine", "adapters", "tests", "docs", "diagrams", ".ci", ".github")
"""Folders of which the sdist holds every file."""


def build(project: Path, kind: str, target: Path) -> Path:
    """Build one archive, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    built = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [archive] = target.iterdir()
    return archive


def files_of(folder: str) -> set[str]:
    """Every file of a folder that is no product of a tool."""
    return {
        path.relative_to(REPO).as_posix()
        for path in (REPO / folder).rglob("*")
        if path.is_file() and not GENERATED & set(path.parts) and path.suffix != ".pyc"
    }


def wheel_files(wheel: Path) -> set[str]:
    """What is in a wheel, but for its own description."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(REPO, "sdist", folder / "archive")) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"authstate-{VERSION}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REPO, "wheel", tmp_path_factory.mktemp("wheel"))


def test_the_sdist_holds_the_code_the_tests_and_the_docs(unpacked: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    pages = {path.name for path in REPO.glob("*.md")} | {"LICENSE", "pyproject.toml", ".pre-commit-config.yaml"}
    expected = pages.union(*map(files_of, WHOLE))
    assert expected - held == set()
    assert {name for name in held - expected if "/" in name} == set()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    ours = {name.removeprefix("adapters/package/") for top in ("engine", "adapters") for name in files_of(top)}
    assert wheel_files(wheel) == {f"authstate/{name}" for name in ours}
    assert {"authstate/__init__.py", "authstate/__main__.py", "authstate/py.typed"} <= wheel_files(wheel)


def test_an_editable_installation_copies_no_code(tmp_path: Path) -> None:
    """What is copied would hide the working tree."""
    program = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPO, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert wheel_files(next(tmp_path.glob("*.whl"))) == {"_authstate.pth"}


def test_the_wheel_names_the_project_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [described] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(described).decode()
        assert [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    fields = metadata.partition("\n\n")[0].splitlines()
    assert f"Version: {VERSION}" in fields
    assert "License-Expression: MIT" in fields
    urls = {
        field.removeprefix("Project-URL: ").partition(", ")[0] for field in fields if field.startswith("Project-URL")
    }
    assert {"Homepage", "Documentation", "Changelog", "Issues", "Source"} == urls


def test_a_wheel_that_is_built_from_the_sdist_is_the_same(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(unpacked, "wheel", tmp_path / "wheel")
    assert wheel_files(again) == wheel_files(wheel)
