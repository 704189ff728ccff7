"""Where the files that go with auth.json are kept."""

import os
from pathlib import Path

import pytest

from authstate.adapters.stores import companion_files

pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths and modes are those of Unix")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    made = tmp_path / "home" / "auth.json"
    made.write_bytes(b'{"a": "old"}')
    return made


def test_where_windows_keeps_what_cannot_be_beside_auth_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion_files, "_UNIX", False)
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert [os.path.dirname(place) for place in companion_files.companion_paths(str(file), ".x")] == [
        str(file.parent),
        "/local/authstate",
    ]
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setenv("HOME", "/home/me")
    assert os.path.dirname(companion_files.companion_paths(str(file), ".x")[1]) == "/home/me/authstate"


def test_a_folder_that_cannot_be_looked_at_is_left_alone(file: Path) -> None:
    assert companion_files._is_private(str(file.parent / "later")) is True
    assert companion_files._is_private(str(file / "below a file")) is False


def test_only_folders_that_exist_are_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    every = companion_files.companion_paths(str(file), ".x")
    assert every[1].startswith(str(tmp_path / "state"))
    assert every[1] not in companion_files.reachable_companion_paths(str(file), ".x")
    (tmp_path / "state" / "authstate").mkdir(parents=True, mode=0o700)
    assert every[:2] == list(companion_files.reachable_companion_paths(str(file), ".x"))[:2]
