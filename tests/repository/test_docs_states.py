"""docs/states.md holds the generated pictures and tables, and speaks of every state."""

import re

import pytest
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLES
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.diagrams import markdown, picture
from authstate.engine.machines.table import Table
from authstate.engine.model.states import AuthState

PAGE = (REPO / "docs" / "states.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """What stands between the two marks of that name."""
    found = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", PAGE, re.S)
    assert len(found) == 1, f"docs/states.md has not one section {name}"
    text: str = found[0]
    return text


def generated(table: Table) -> str:
    rows = "\n".join(markdown(table).splitlines()[4:])
    return f"\n{picture(table, '../diagrams/')}\n\n{rows}\n\n"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_page_shows_the_running_table(table: Table) -> None:
    assert section(table.name) == generated(table)


def test_the_first_page_shows_the_login() -> None:
    assert f"\n{picture(AUTH_TABLE, 'diagrams/')}\n" in (REPO / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("state", AuthState)
def test_the_page_says_what_each_state_means(state: AuthState) -> None:
    assert f"- **`{state}`**: " in PAGE
