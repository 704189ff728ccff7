"""`authstate report`, as a person runs it."""

import asyncio
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from authstate import AuthJsonStore
from authstate.adapters.cli.main import main
from authstate.adapters.journal.lines import Line, Redaction, encode, journal_path
from authstate.adapters.journal.recorder import LineMaker
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, RefreshDeadReason
from authstate.testing import FakeAuthority, make_tokens


async def _lives_and_dies(home: Path, tokens: ChatgptTokens) -> list[Line]:
    authority = FakeAuthority(tokens)
    engine = AuthEngine(AuthJsonStore(home), authority)
    lines = LineMaker(Redaction(str(home)))
    told = [lines.opened({"program": "tool"})]
    engine.subscribe(lambda event: told.append(lines.line_of(event)))
    engine.subscribe_trace(lambda step: told.append(lines.line_of(step)))
    async with engine:
        await engine.complete_chatgpt_login(tokens)
        authority.kill(RefreshDeadReason.EXPIRED)
        with suppress(AuthError):
            await engine.refresh()
    return [line() for line in told]


@pytest.fixture
def tokens() -> ChatgptTokens:
    return make_tokens(email="person@example.com", account_id="org-1", expires_in=-60.0)


@pytest.fixture
def home(tmp_path: Path, tokens: ChatgptTokens, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(folder))
    for name in ("AUTHSTATE_JOURNAL", "AUTHSTATE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    lines = asyncio.run(_lives_and_dies(folder, tokens))
    Path(journal_path(folder)).write_bytes(b"".join(encode(line) for line in lines))
    return folder


def test_it_prints_markdown(home: Path, capsys: pytest.CaptureFixture[str], tokens: ChatgptTokens) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# What happened to the login\n")
    assert "Your sign-in has expired: the refresh token is too old." in out
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before, "it changes nothing"
    for hidden in ("person@example.com", "org-1", str(home), tokens.account.digest):
        assert hidden not in out
    for secret in (tokens.access_token, tokens.refresh_token, tokens.id_token):
        assert secret.reveal() not in out


def test_it_prints_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"]["isAsTheTablesSay"] is True
    assert [entry["what"] for entry in report["timeline"]][-1] == "ended"


def test_it_writes_one_private_file(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.md"
    assert main(["report", "--output", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"Wrote {file}. The login is dead since ")
    assert "## Timeline" in file.read_text(encoding="utf-8")
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_is_named(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "none" / "report.md"
    assert main(["report", "--output", str(place)]) == 1
    assert capsys.readouterr().err == (
        f"authstate: cannot write {place}: no such file or directory: name another file with --output\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFO in a folder")
@pytest.mark.parametrize("is_read", [False, True])
def test_a_pipe_is_refused_at_once(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_read: bool
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if is_read else None
    assert main(["report", "--output", str(pipe)]) == 1
    assert capsys.readouterr().err == (
        f"authstate: cannot write {pipe}: not a regular file: name another file with --output\n"
    )
    if reader is not None:
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_a_folder_is_refused_and_a_file_is_replaced(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--output", str(tmp_path)]) == 1
    assert "is a directory: name another file" in capsys.readouterr().err
    file = tmp_path / "report.md"
    file.write_text("x" * 100_000)
    assert main(["report", "--output", str(file)]) == 0
    assert "xxx" not in file.read_text(encoding="utf-8")


def test_an_email_is_shown_if_somebody_asks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--with-email"]) == 0
    assert "- login A: person@example.com\n" in capsys.readouterr().out


def test_another_home_can_be_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    assert main(["report", "--home", str(home)]) == 0
    assert "The login is dead since" in capsys.readouterr().out
    assert main(["report", "--home", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err.startswith(f"authstate: --home is {tmp_path}/none, and there is no such folder")


def test_a_home_without_lines_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    monkeypatch.delenv("AUTHSTATE_JOURNAL", raising=False)
    assert main(["report"]) == 0
    assert "The journal of this home is empty" in capsys.readouterr().out
    assert main(["report", "-c", "authstate.journal=off", "--with-email"]) == 0
    assert "The journal is turned off: set authstate.journal" in capsys.readouterr().out
    assert main(["report", "-c", "authstate.journal=maybe"]) == 3
    assert main(["report", "--with-email", "-c", "cli_auth_credentials_store=ephemeral"]) == 0
    assert os.listdir(tmp_path) == []


def test_a_step_that_is_not_allowed_is_an_exit_status(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Line(1, 1.0, "zz", 1, 1, "state_changed", {"trigger": "log_out", "previous": "chatgpt", "state": "chatgpt"})
    Path(journal_path(home)).write_bytes(encode(wrong))
    assert main(["report"]) == 1
    assert "the table or rule *auth_state* does not allow line #1" in capsys.readouterr().out
