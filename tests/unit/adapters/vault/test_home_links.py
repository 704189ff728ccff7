"""The links in the home of an account, while somebody else changes the folder."""

import errno
import os
import stat
from pathlib import Path

import pytest

from authstate.adapters.vault.home_links import link_entries, remove_links


@pytest.fixture
def folder(home: Path) -> Path:
    made = home / "authstate" / "homes" / "0123abcd"
    made.mkdir(parents=True)
    return made


def test_folders_that_codex_cannot_make_behind_a_link_are_made(home: Path, folder: Path) -> None:
    link_entries(str(home), str(folder))
    assert stat.S_IMODE((home / "sessions").stat().st_mode) == 0o700
    (folder / "sessions" / "one").write_text("one")
    assert (home / "sessions" / "one").read_text() == "one"


def raising(error: OSError) -> object:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("function", "error"),
    [("symlink", FileExistsError()), ("unlink", FileNotFoundError()), ("rename", FileNotFoundError())],
)
def test_another_run_does_the_same_at_this_moment(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: OSError
) -> None:
    (folder / "config.toml").symlink_to(home.parent / "moved" / "config.toml")
    (folder / "prompts").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, raising(error))
        link_entries(str(home), str(folder))
    link_entries(str(home), str(folder))
    assert (folder / "config.toml").readlink() == home / "config.toml"
    assert (folder / "prompts").readlink() == home / "prompts"


def test_what_cannot_be_moved_or_removed_is_kept(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_entries(str(home), str(folder))
    (folder / "prompts").mkdir()
    (folder / "prompts" / "one.md").write_text("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", raising(OSError(errno.EXDEV, "another file system")))
        patch.setattr(os, "unlink", raising(PermissionError()))
        assert remove_links(str(home), str(folder)) == [str(folder / "prompts")]
    assert (folder / "prompts" / "one.md").read_text() == "one"
    assert remove_links(str(home), str(folder)) == []
    assert (home / "prompts" / "one.md").read_text() == "one"
    assert not folder.exists()


def test_a_link_that_leads_out_is_removed_and_not_what_it_leads_to(home: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "one").write_text("one")
    (folder / "outside").symlink_to(tmp_path / "outside")
    (folder / "tmp").symlink_to(tmp_path / "outside")
    assert remove_links(str(home), str(folder)) == []
    assert (tmp_path / "outside" / "one").read_text() == "one"
    assert not (home / "outside").exists()


@pytest.mark.parametrize("name", ["auth.notes.md", "tmp.md", "log.md", ".tmpl", "flake.lock", "authstate.md"])
def test_a_file_of_a_person_is_kept_whatever_its_name(home: Path, folder: Path, name: str) -> None:
    (folder / name).write_text("mine")
    assert remove_links(str(home), str(folder)) == []
    assert (home / name).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["auth.json.authstate.claims", ".tmpAbC123", ".tmp-half", "state_5.sqlite", "state_5.sqlite-wal", "x.lock"]
)
def test_what_belongs_to_the_home_itself_is_neither_linked_nor_kept(home: Path, folder: Path, name: str) -> None:
    for place in (home, folder):
        (place / name).write_text("" if name == "x.lock" else "own")
    link_entries(str(home), str(folder))
    assert not (folder / name).is_symlink()
    (home / name).unlink()
    assert remove_links(str(home), str(folder)) == []
    assert not (home / name).exists()
