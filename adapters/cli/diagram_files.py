"""`authstate diagram`: write the diagrams of the state tables and their page, or check that they are up to date."""

from collections.abc import Mapping
from pathlib import Path

from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.files import generated_files
from authstate.adapters.tables.held_by import UnreadableCoverage, read_held_by
from authstate.adapters.tables.page import page

COVERAGE = "coverage.json"
"""In the directory of the diagrams: which tests hold each cell. The page shows it, if it is there."""


def diagrams(directory: Path, html: Path | None, *, check: bool) -> ExitStatus:
    """Write the files, or compare them with the tables.

    Args:
        directory: of the diagrams. The file `coverage.json` in it says which tests hold each cell.
        html: the one file to write or check: the page. None: every file of the directory.
        check: change nothing, and name the files that are missing or out of date.

    Raises:
        OSError: a file cannot be read or written.
    """
    try:
        held = read_held_by(directory / COVERAGE)
    except UnreadableCoverage as error:
        print_error(str(error), ExitStatus.NOT_SIGNED_IN)
        return ExitStatus.NOT_SIGNED_IN
    if html is not None:
        files = {html: page(TABLES, TABLE_WORDS, held)}
        again = f"authstate diagram --html {html}" + (f" {directory}" if directory != Path("diagrams") else "")
        return _check(files, str(html), again) if check else _write(files, str(html))
    files = {directory / name: text for name, text in generated_files(TABLES, TABLE_WORDS, held).items()}
    if check:
        return _check(files, str(directory), f"authstate diagram {directory}")
    return _write(files, f"{len(files)} files to {directory}")


def _write(files: Mapping[Path, str], what: str) -> ExitStatus:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"Wrote {what}.")
    return ExitStatus.DONE


def _check(files: Mapping[Path, str], what: str, again: str) -> ExitStatus:
    stale = [path.name for path, text in files.items() if _read(path) != text]
    if stale:
        message = f"{what} is out of date ({', '.join(stale)}): run `{again}`"
        print_error(message, ExitStatus.NOT_SIGNED_IN)
        return ExitStatus.NOT_SIGNED_IN
    print(f"{what}: {len(files)} files are up to date." if len(files) > 1 else f"{what} is up to date.")
    return ExitStatus.DONE


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
