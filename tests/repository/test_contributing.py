"""CONTRIBUTING.md, SECURITY.md and the docs: the files and commands that they name exist."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.paths import REPO

from authstate import AuthEngine

TOPS = "engine|adapters|tests|docs|diagrams"
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", REPO / "SECURITY.md", *sorted((REPO / "docs").rglob("*.md"))]
QUESTIONS = 10
"""At least so many questions have an answer in CONTRIBUTING.md."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def relative(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


def answers() -> list[tuple[str, str]]:
    """The rows of "Where is ...?": a question and its answer."""
    _, _, section = text_of(REPO / "CONTRIBUTING.md").partition("\n## Where is ...?\n")
    return re.findall(r"^\| (.*\?) \| (.*) \|$", section, re.M)


def test_ten_questions_have_a_file_for_an_answer() -> None:
    assert len(answers()) >= QUESTIONS
    for question, answer in answers():
        assert re.search(r"`(?:engine|adapters)/[\w/]+\.py`", answer), question


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(rf"(?<![\w/.])((?:{TOPS})/[\w./-]*\w)", re.sub(r"\]\([^)]*\)", "", text_of(page)))
    assert [path for path in named if not (REPO / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_each_module_that_a_command_runs_exists(page: Path) -> None:
    for name in re.findall(r"python -m ([\w.]+)", text_of(page)):
        assert find_spec(name) is not None, name


def test_the_engine_has_what_the_answers_call_by_name() -> None:
    for _, answer in answers():
        for name in re.findall(r"`AuthEngine\.(\w+)`", answer):
            assert callable(getattr(AuthEngine, name))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_each_dotted_name_exists(page: Path) -> None:
    for name in re.findall(r"`((?:authstate\.)?(?:adapters|engine)\.[A-Za-z_][\w.]*\w)`", text_of(page)):
        if not name.startswith(("engine.session", "engine.refresh")):  # attributes of an engine, in examples
            assert name.startswith("authstate."), f"write {name} as it is imported"
            assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute in one."""
    module, _, attributes = name, "", ""
    while find_module(module) is None:
        module, _, last = module.rpartition(".")
        attributes = f"{last}.{attributes}".rstrip(".")
    found: object = import_module(module)
    for attribute in filter(None, attributes.split(".")):
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


def find_module(name: str) -> object:
    try:
        return find_spec(name)
    except ModuleNotFoundError:
        return None


def test_the_engine_has_each_method_that_the_page_about_embedding_lists() -> None:
    _, _, rest = text_of(REPO / "docs" / "embedding.md").partition("\nThe methods of an engine.")
    rows = re.findall(r"^\| .* \| (.*) \|$", rest.partition("\n- ")[0], re.M)[1:]
    names = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert len(names) > 20
    assert names - {"start_browser_login", "start_device_login"} <= set(dir(AuthEngine))
