"""Which commands make the folder of the vault and what is in it, as docs/storage.md says."""

import asyncio
import os
from pathlib import Path

import pytest
from support.adopted_home import Home
from support.paths import REPO

from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.testing import LoopbackIssuer

PAGE = (REPO / "docs" / "storage.md").read_text(encoding="utf-8")
ACCOUNTS = {"accounts.json", "accounts.json.lock"}
LEASES = {"leases.json", "leases.json.lock"}
ADOPTED = {"accounts/home/auth.json", "accounts/home/auth.json.authstate.lock"}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="a lock file does not stay there")


@pytest.fixture(autouse=True)
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer) -> Path:
    """The folder of the vault of a home in which somebody is signed in. It does not exist."""
    for name in list(os.environ):
        if name.startswith(("CODEX_", "OPENAI_", "AUTHSTATE_")):
            monkeypatch.delenv(name)
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home", StoreMode.FILE)
    asyncio.run(home.sign_in(read_login(loopback.seed(email="person@example.com"))))
    return tmp_path / "home" / "authstate"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    ["status", "token", "account list", "lease list", "lease end --all", "broker release", "logout"],
)
def test_what_makes_no_vault(vault: Path, command: str) -> None:
    assert main(command.split()) == 0
    assert not vault.exists()


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("account rename home private", ACCOUNTS),
        ("account use home", {"accounts.json.lock"}),
        ("lease new --json", LEASES),
        ("broker adopt", LEASES | ADOPTED),
    ],
)
def test_what_makes_it_and_every_file_is_in_the_docs(vault: Path, command: str, files: set[str]) -> None:
    assert main(command.split()) == 0
    assert files_in(vault) == files
    for name in files:
        assert f"`authstate/{name}`" in PAGE or f"`{Path(name).name}`" in PAGE, name
