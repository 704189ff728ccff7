"""Every generated file of the tables: the text forms, the pictures and the page."""

from collections.abc import Mapping, Sequence

from authstate.adapters.tables.held_by import Held
from authstate.adapters.tables.page import page
from authstate.adapters.tables.svg import svg_file
from authstate.engine.machines.diagrams import render_all
from authstate.engine.machines.table import Table
from authstate.engine.machines.words import Words

PAGE = "tables.html"


def generated_files(tables: Sequence[Table], words: Mapping[str, Words], held: Held) -> dict[str, str]:
    """Return the text of each file, by its name in the folder diagrams/.

    Args:
        tables: the tables, in the order in which they are shown.
        words: the words of each table, by its name.
        held: the tests that hold each cell. Empty if they are not known.
    """
    files = render_all(tables)
    files |= {f"{table.name}.svg": svg_file(table) for table in tables}
    files[PAGE] = page(tables, words, held)
    return files
