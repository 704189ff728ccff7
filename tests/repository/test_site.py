"""The site: it is built without a warning, its menu leads to every page, and its reference has every public name."""

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.paths import REPO

import authstate
import authstate.testing

FOLDER = REPO / "docs" / "site"
NO_REFERENCE = {
    "__version__",
    "Credentials",
    "StaticCredentials",
    "Event",
    "Listener",
    "AsyncListener",
    "EngineOptions",
}
"""Names of types that the entries of other names spell out."""


def pages_of(menu: list[dict[str, Any]]) -> list[str]:
    """The pages that a menu leads to."""
    found: list[str] = []
    for entry in menu:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages_of(target)
    return found


def referenced() -> list[str]:
    groups = tomllib.loads((FOLDER / "reference.toml").read_text(encoding="utf-8"))
    return [name for group in groups.values() for name in group["names"]]


@pytest.fixture(scope="module")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a build wrote: the site, and the pages that it was made from."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "docs/site/build.py", "--without-mermaid", "--into", str(folder)]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=250)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_menu_leads_to_every_page_that_is_built(built_site: Path) -> None:
    menu = tomllib.loads((FOLDER / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    listed = pages_of(menu)
    assert [page for page, times in Counter(listed).items() if times > 1] == []
    source = built_site / "site-source" / "docs"
    written = {path.relative_to(source).as_posix() for path in source.rglob("*.md")}
    below = {page for page in written if page.startswith(("decisions/", "diagrams/")) and not page.endswith("index.md")}
    assert written - below == set(listed), "their index leads to the others"


def test_no_link_of_a_page_leads_out_of_the_site_by_mistake(built_site: Path) -> None:
    for path in (built_site / "site").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'href="../../docs/' not in text and 'href="docs/' not in text, path


def test_the_reference_has_every_public_name_once() -> None:
    wanted = {f"authstate.{name}" for name in set(authstate.__all__) - NO_REFERENCE}
    wanted |= {f"authstate.testing.{name}" for name in authstate.testing.__all__ if name != "MemoryStore"}
    assert Counter(referenced()) == Counter(wanted)


def test_a_page_of_the_reference_shows_what_a_name_is_for(built_site: Path) -> None:
    text = (built_site / "site" / "reference" / "engine" / "index.html").read_text(encoding="utf-8")
    for words in (
        "AuthEngine",
        "Owns the lifecycle of one login.",
        "min_lifetime",
        "Revoke the tokens that they replace",
    ):
        assert words in text


def test_the_site_shows_the_drawings_of_the_tables_and_the_page_to_walk_through_them(built_site: Path) -> None:
    folder = built_site / "site"
    for name in ("auth_state.svg", "tables.html"):
        assert (folder / "diagrams" / name).read_bytes() == (REPO / "diagrams" / name).read_bytes()
    states = (folder / "states" / "index.html").read_text(encoding="utf-8")
    assert 'href="../diagrams/tables.html"' in states
    assert 'src="../diagrams/auth_state.svg"' in states
    start = (folder / "index.html").read_text(encoding="utf-8")
    assert 'src="diagrams/auth_state.svg"' in start
