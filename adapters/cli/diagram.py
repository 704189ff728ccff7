"""`authstate diagram`: write the diagrams of the state tables, or check that they are up to date."""

from pathlib import Path

from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.state_tables import TABLES
from authstate.engine.machines.diagrams import render_all


def write_diagrams(directory: Path) -> ExitStatus:
    """Write a file for each table and each format. Makes the directory if it does not exist. Raises OSError."""
    files = render_all(TABLES)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"Wrote {len(files)} files to {directory}.")
    return ExitStatus.DONE


def check_diagrams(directory: Path) -> ExitStatus:
    """Compare the files with the tables, and name those that are missing or out of date. Changes nothing."""
    files = render_all(TABLES)
    stale = [name for name, text in files.items() if _read(directory / name) != text]
    if stale:
        message = f"{directory} is out of date ({', '.join(stale)}): run `authstate diagram {directory}`"
        print_error(message, ExitStatus.NOT_SIGNED_IN)
        return ExitStatus.NOT_SIGNED_IN
    print(f"{directory}: {len(files)} files are up to date.")
    return ExitStatus.DONE


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
