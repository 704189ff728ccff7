"""The tables of git revisions, this repository's own history included."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.git_repository import GitRepository
from support.paths import REPO

from authstate.adapters.tables.git_revision import GitRevision
from authstate.adapters.tables.table_data import CannotReadTables
from authstate.adapters.tables.table_diff import compare_tables

TABLE = (
    "from authstate.engine.table import Row, Table\n"
    "T_TABLE = Table(name='t', title='T', states=('a', 'b'), initial='a', rows=(Row('go', ('a',), '{}', 'go on'),))\n"
)


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return GitRepository(tmp_path / "repository")


def test_a_revision_has_the_tables_of_its_files(repository: GitRepository) -> None:
    first = repository.commit({"engine/t.py": TABLE.format("a"), "tests/test_t.py": TABLE.format("b")})
    repository.commit({"engine/t.py": None, "engine/mächines/t.py": TABLE.format("b")})
    below = repository.folder / "engine"
    old, new = (GitRevision.find(name, below) for name in ("HEAD~1", "main"))
    assert (old.commit, old.top) == (first, repository.folder)
    assert [data.path for data in old.tables().values()] == ["engine/t.py"]
    assert [data.path for data in new.tables().values()] == ["engine/mächines/t.py"]
    [diff] = compare_tables("old", old.tables(), "new", new.tables()).changed
    assert [change.fields for change in diff.rows] == [("target",)]


def test_what_is_not_committed_is_not_seen(repository: GitRepository) -> None:
    repository.commit({"engine/t.py": TABLE.format("a")})
    (repository.folder / "engine" / "t.py").write_text(TABLE.format("b"), encoding="utf-8")
    assert GitRevision.find("HEAD", repository.folder).tables()["t"].table.rows[0].target == "a"


@pytest.mark.parametrize("name", ["gone", "--help", "--output=x", "", "HEAD:engine", "a..b", "HEAD x"])
def test_an_unknown_revision_is_an_error(repository: GitRepository, name: str) -> None:
    repository.commit({"engine/t.py": TABLE.format("a")})
    with pytest.raises(CannotReadTables, match=r"there is no revision '.*' in .*: name a commit, a branch or a tag"):
        GitRevision.find(name, repository.folder)
    assert sorted(path.name for path in repository.folder.iterdir()) == [".git", "engine"]


def test_a_revision_without_tables_and_one_that_cannot_be_read_are_errors(repository: GitRepository) -> None:
    repository.commit({"a.py": "x = 1\n"})
    with pytest.raises(CannotReadTables, match=r"^'HEAD' in .* has no state tables of authstate$"):
        GitRevision.find("HEAD", repository.folder).tables()
    repository.commit({"engine/t.py": TABLE.replace("'{}'", "choose()")})
    with pytest.raises(CannotReadTables, match=r"^the tables of 'main' cannot be read: engine/t\.py does not def"):
        GitRevision.find("main", repository.folder).tables()


def test_a_folder_without_a_repository_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(CannotReadTables, match=r"^git cannot read .*: fatal: not a git repository"):
        GitRevision.find("HEAD", tmp_path)


def test_a_machine_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotReadTables, match=r"^git is not installed, .*: install git$"):
        GitRevision.find("HEAD", tmp_path)


def test_every_revision_of_this_repository_can_be_read() -> None:
    """The first, the last and some between them. A copy without its history has fewer."""
    listed = subprocess.run(["git", "rev-list", "HEAD"], cwd=REPO, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a clone: there is no history")
    commits = listed.stdout.split()
    chosen = dict.fromkeys([commits[0], *commits[::200], commits[-1]])
    versions = [GitRevision.find(commit, REPO).tables() for commit in chosen]
    assert all({"auth_state", "recovery", "login_attempt"} <= set(tables) for tables in versions)
    for old, new in zip(versions[1:], versions, strict=False):
        compare_tables("old", old, "new", new)
