"""Homes for the tests of stores, and the folder of the user, for what cannot be written beside auth.json."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = 4321


@pytest.fixture
def home_of_user() -> Iterator[Path]:
    """A home of an ordinary user, in which root signs in. Not in `tmp_path`: other users may not enter that."""
    with tempfile.TemporaryDirectory(prefix="authstate-owner-") as folder:
        os.chmod(folder, 0o755)
        home = Path(folder, "home")
        home.mkdir(mode=0o700)
        os.chown(home, USER, USER)
        yield home


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user, below `tmp_path`. It is not made."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "state" / "authstate"


@pytest.fixture
def file(tmp_path: Path, state: Path) -> Path:
    """An auth.json, which is not a login."""
    (tmp_path / "home").mkdir()
    made = tmp_path / "home" / "auth.json"
    made.write_bytes(b'{"a": "old"}')
    return made
