"""Temporary folders: who may read them, and who removes them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from authstate.adapters.io.temporary_folder import LOCK, temporary_folder

PREFIX = "authstate-test-"
KILLED = f"""
import os, signal, sys
from authstate.adapters.io.temporary_folder import temporary_folder
with temporary_folder({PREFIX!r}) as folder:
    (folder / "token").write_text("secret")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def names(temporary: Path) -> set[str]:
    return {path.name for path in temporary.iterdir()}


def test_it_is_private_and_removed_at_the_end(temporary: Path) -> None:
    with temporary_folder(PREFIX) as folder:
        assert folder.parent == temporary and folder.name.startswith(PREFIX)
        assert os.name == "nt" or folder.stat().st_mode & 0o777 == 0o700
        (folder / "inside").mkdir()
    assert names(temporary) == set()


def test_two_at_once_leave_each_other_alone(temporary: Path) -> None:
    with temporary_folder(PREFIX) as one:
        with temporary_folder(PREFIX) as other:
            assert names(temporary) == {one.name, other.name}
        assert one.is_dir()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_the_next_one_removes_that_of_a_process_that_was_killed(temporary: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert killed.returncode < 0 and (left / "token").is_file()
    with temporary_folder("authstate-other-"):
        assert left.is_dir()
    with temporary_folder(PREFIX) as folder:
        assert names(temporary) == {folder.name}


def test_what_is_not_known_to_be_a_leftover_stays(temporary: Path) -> None:
    foreign = temporary / f"{PREFIX}without-a-lock"
    foreign.mkdir()
    (temporary / f"{PREFIX}file").write_text("")
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).write_text("")
    if os.name != "nt":
        (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    before = names(temporary)
    with temporary_folder(PREFIX):
        pass
    assert names(temporary) == before
    assert (elsewhere / LOCK).is_file()


def test_it_needs_no_locks(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("authstate.adapters.io.temporary_folder.FileLock.acquire", fail)
    with temporary_folder(PREFIX) as folder:
        assert list(folder.iterdir()) == []
    assert names(temporary) == set()


def test_a_folder_into_which_a_program_still_writes_is_removed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = shutil.rmtree

    def remove_and_write(path: Path, ignore_errors: bool) -> None:
        remove(path, ignore_errors)
        path.mkdir()
        (path / "late").touch()

    with temporary_folder(PREFIX) as folder:
        monkeypatch.setattr(shutil, "rmtree", remove_and_write)
    assert (folder / "late").exists()
    monkeypatch.setattr(shutil, "rmtree", remove)
    with temporary_folder(PREFIX):
        assert not folder.exists()
