"""`authstate diagram --diff` and `--xstate`: compare two versions of the state tables, or write them for XState."""

import argparse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from authstate.adapters.cli.exit_status import ExitStatus, UsageError
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES


class DiffForm(StrEnum):
    """How the difference of two versions is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def form_of(options: argparse.Namespace) -> DiffForm:
    """Return the form that the options ask for."""
    return DiffForm.MARKDOWN if options.markdown else DiffForm.JSON if options.json else DiffForm.TEXT


def show_diff(revisions: Sequence[str], form: DiffForm) -> ExitStatus:
    """Print what differs between the tables of two revisions, or of a revision and the running code.

    No code of a revision is executed.

    Args:
        revisions: one or two, the older one first, of the git repository that the working directory belongs to.
        form: how it is printed.

    Returns:
        DONE if the tables are the same, NOT_SIGNED_IN (1) if they differ.

    Raises:
        UsageError: there are more than two revisions, or one cannot be read.
    """
    from authstate.adapters.tables import diff_report
    from authstate.adapters.tables.git_revision import GitRevision
    from authstate.adapters.tables.table_data import CannotReadTables, running_tables
    from authstate.adapters.tables.table_diff import compare_tables

    if len(revisions) > 2:
        raise UsageError(f"--diff takes one or two revisions, not {len(revisions)}: write `--diff OLD NEW`")
    try:
        tables = [GitRevision.find(revision, Path.cwd()).tables() for revision in revisions]
    except CannotReadTables as error:
        raise UsageError(str(error)) from None
    names = [*revisions, "the running code"]
    old, new = [*tables, running_tables(TABLES, TABLE_WORDS)][:2]
    diff = compare_tables(names[0], old, names[1], new)
    write = {
        DiffForm.TEXT: diff_report.as_text,
        DiffForm.MARKDOWN: diff_report.as_markdown,
        DiffForm.JSON: diff_report.as_json,
    }
    print(write[form](diff), end="")
    return ExitStatus.NOT_SIGNED_IN if diff.changed else ExitStatus.DONE


def write_xstate(directory: Path) -> ExitStatus:
    """Write a file in the JSON of XState for each table. Makes the directory if it does not exist. Raises OSError."""
    from authstate.adapters.tables.table_data import running_tables
    from authstate.adapters.tables.xstate import xstate_files

    files = xstate_files(running_tables(TABLES, TABLE_WORDS))
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"Wrote {len(files)} files to {directory}.")
    return ExitStatus.DONE
