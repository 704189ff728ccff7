"""The files of a revision, as git keeps them. Nothing is checked out, and no code of the revision is executed."""

import os
import subprocess
from pathlib import Path
from typing import Self

import msgspec

from authstate.adapters.tables.table_data import CannotReadTables, TableData
from authstate.adapters.tables.table_source import tables_of_source

_TABLES = "^[A-Za-z_]\\w*[^=#]*= *Table\\("
_TIMEOUT = 60.0  # seconds for one git command


class GitRevision(msgspec.Struct, frozen=True):
    """One commit of the repository that a folder belongs to."""

    name: str
    """As the person wrote it."""
    commit: str
    """Its full hash."""
    top: Path
    """The top of the repository."""

    @classmethod
    def find(cls, name: str, folder: Path) -> Self:
        """Find a revision, such as a branch, a tag or `HEAD~3`, in the repository of a folder.

        Raises:
            CannotReadTables: git is not installed, the folder is in no repository, or there is no such revision.
        """
        top = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
        try:
            commit = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except CannotReadTables:
            raise CannotReadTables(
                f"there is no revision '{name}' in {top}: name a commit, a branch or a tag that was fetched"
            ) from None
        return cls(name, commit.strip(), top)

    def tables(self) -> dict[str, TableData]:
        """Return its tables by their names.

        Raises:
            CannotReadTables: a table cannot be read, or there is none. The message names the revision.
        """
        try:
            found = tables_of_source(self._paths(), self._read)
        except CannotReadTables as error:
            raise CannotReadTables(f"the tables of '{self.name}' cannot be read: {error}") from None
        if not found:
            raise CannotReadTables(f"'{self.name}' in {self.top} has no state tables of authstate")
        return found

    def _paths(self) -> list[str]:
        """The files that assign a table, in the order of their paths. Tests make tables of their own."""
        command = ("grep", "-l", "-z", "-E", _TABLES, self.commit, "--", "*.py", ":(exclude)tests/")
        listed = _git(self.top, *command, none_is=1)
        return sorted(entry.removeprefix(f"{self.commit}:") for entry in listed.split("\0") if entry)

    def _read(self, path: str) -> str | None:
        try:
            return _git(self.top, "cat-file", "blob", f"{self.commit}:{path}")
        except CannotReadTables:
            return None


def _git(folder: Path, *arguments: str, none_is: int = 0) -> str:
    """Run git in a folder and return what it prints.

    Args:
        none_is: an exit status that means: there is nothing.

    Raises:
        CannotReadTables: git is not installed or failed.
    """
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environ, timeout=_TIMEOUT)
    except FileNotFoundError:
        raise CannotReadTables("git is not installed, and other revisions are read with it: install git") from None
    except subprocess.TimeoutExpired:
        raise CannotReadTables(f"git did not answer within {_TIMEOUT:g} seconds: try again") from None
    if done.returncode not in (0, none_is):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CannotReadTables(f"git cannot read {folder}: {said[-1] if said else 'it gave no reason'}")
    return done.stdout.decode("utf-8", "replace")
