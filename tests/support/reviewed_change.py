"""The change of the tables that docs/reviewing-tables.md explains: `python -m support.reviewed_change`, in `tests/`.

It prints the report and the picture as the page shows them.
"""

import msgspec

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.table_data import TableData, running_tables
from authstate.adapters.tables.table_diff import TablesDiff, compare_tables

OLD, NEW = "main", "the pull request"


def reviewed_change() -> TablesDiff:
    """The running tables, and what somebody might propose: two rows are changed."""
    old = running_tables(TABLES, TABLE_WORDS)
    return compare_tables(OLD, old, NEW, {name: _proposed(data) for name, data in old.items()})


def _proposed(data: TableData) -> TableData:
    rows = list(data.table.rows)
    for place, row in enumerate(rows):
        if row.trigger == "tokens_refreshed" and row.target == "chatgpt":
            rows[place] = msgspec.structs.replace(row, sources=("chatgpt",), guard="permitted")
        if row.trigger == "lose":
            rows[place] = msgspec.structs.replace(row, target="free")
    return msgspec.structs.replace(data, table=msgspec.structs.replace(data.table, rows=tuple(rows)))


if __name__ == "__main__":
    from authstate.adapters.tables.diff_picture import picture
    from authstate.adapters.tables.diff_report import as_text

    found = reviewed_change()
    print(as_text(found))
    for table in found.changed:
        print(picture(table))
