"""`authstate diagram --diff` and `--xstate`: what is printed and written, and the exit status."""

import json
import shutil
from pathlib import Path

import pytest
from support.git_repository import GitRepository
from support.paths import REPO

from authstate.adapters.cli.main import main
from authstate.adapters.cli.state_tables import TABLES

Captured = pytest.CaptureFixture[str]
LEASE = "engine/machines/lease.py"
ACTIVE = '(_ACTIVE, _EXPIRED), _ENDED, "its owner'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepository:
    """A repository with the tables of this one, and as working directory."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    files = [path for top in ("engine", "adapters") for path in (REPO / top).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    needed = {path for path, text in texts.items() if "= Table(" in text or path.name in ("states.py", "words.py")}
    made = GitRepository(tmp_path / "repository")
    made.commit({path.relative_to(REPO).as_posix(): texts[path] for path in needed})
    monkeypatch.chdir(made.folder)
    return made


def with_other_lease(repository: GitRepository) -> None:
    text = (repository.folder / LEASE).read_text(encoding="utf-8")
    assert ACTIVE in text
    repository.commit({LEASE: text.replace(ACTIVE, ACTIVE.replace("_ACTIVE, _EXPIRED", "_EXPIRED,"))})


def test_the_same_tables_are_told_with_status_0(repository: GitRepository, capsys: Captured) -> None:
    assert main(["diagram", "--diff", "HEAD"]) == 0
    assert capsys.readouterr().out == "No state table differs between `HEAD` and `the running code` (8 tables).\n"


def test_two_revisions_are_compared_in_every_form(repository: GitRepository, capsys: Captured) -> None:
    with_other_lease(repository)
    assert main(["diagram", "--diff", "HEAD~1", "HEAD"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("1 state table differs between `HEAD~1` and `HEAD`, 7 are the same.\n")
    assert "Lease (`lease` in `engine/machines/lease.py`): 1 row with other sources\n" in text
    assert (
        "- Newly refused: `end` in `active` is refused with `TransitionRefused`. Before, it led to `ended`.\n" in text
    )
    assert main(["diagram", "--diff", "HEAD~1", "HEAD", "--markdown"]) == 1
    assert capsys.readouterr().out.count("```mermaid\n") == 1
    assert main(["diagram", "--diff", "HEAD~1", "HEAD", "--json"]) == 1
    out = capsys.readouterr().out
    assert out.endswith("}\n")
    assert [table["name"] for table in json.loads(out)["changed"]] == ["lease"]
    assert main(["diagram", "--diff", "HEAD"]) == 1
    assert "- Newly allowed: `end` in `active` leads to `ended`." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diff", "gone"], "there is no revision 'gone' in "),
        (["--diff", "HEAD", "gone"], "there is no revision 'gone' in "),
        (["--diff", "a", "b", "c"], "--diff takes one or two revisions, not 3: write `--diff OLD NEW`"),
        (["--markdown"], "--markdown and --json are forms of --diff: add --diff and a revision, such as --diff main"),
        (["--json", "--check"], "--markdown and --json are forms of --diff"),
        (["--diff", "HEAD", "--json", "--markdown"], "not allowed with argument --json"),
        (["--diff", "HEAD", "--check"], "not allowed with argument --diff"),
    ],
)
def test_what_cannot_be_compared_has_status_2(
    repository: GitRepository, capsys: Captured, arguments: list[str], message: str
) -> None:
    assert main(["diagram", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_a_table_that_is_computed_by_a_function_has_status_2(repository: GitRepository, capsys: Captured) -> None:
    text = (repository.folder / LEASE).read_text(encoding="utf-8")
    repository.commit({LEASE: text.replace("states=tuple(LeaseState)", "states=choose()")})
    assert main(["diagram", "--diff", "HEAD"]) == 2
    line = capsys.readouterr().err
    assert line == f"authstate: the tables of 'HEAD' cannot be read: {LEASE} does not define choose\n"


def test_the_tables_are_written_for_xstate(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "new" / "machines"
    assert main(["diagram", "--xstate", str(folder)]) == 0
    assert capsys.readouterr().out == f"Wrote {len(TABLES)} files to {folder}.\n"
    assert {path.name for path in folder.iterdir()} == {f"{table.name}.json" for table in TABLES}
    auth = json.loads((folder / "auth_state.json").read_text(encoding="utf-8"))
    assert (auth["id"], auth["initial"], list(auth["states"])) == ("auth_state", "logged_out", list(TABLES[0].states))
    external = auth["states"]["external_tokens"]
    assert external["meta"]["refusals"]["use_api_key"] == "ExternalTokensActive"
    assert external["on"]["tokens_refreshed"] == [
        {
            "target": "external_tokens",
            "guard": "same_account",
            "actions": "install",
            "description": "new tokens from the parent",
        }
    ]
    claim = json.loads((folder / "refresh_claim.json").read_text(encoding="utf-8"))
    assert {name for name, state in claim["states"].items() if state.get("type") == "final"} == {"spent", "dead"}
    (tmp_path / "file").touch()
    assert main(["diagram", "--xstate", str(tmp_path / "file")]) == 1
