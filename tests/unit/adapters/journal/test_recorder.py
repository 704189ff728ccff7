"""What an engine's journal gets, and when."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import authstate
from authstate import AuthEngine, AuthJsonStore, Environment, MemoryStore, load_config, open_engine
from authstate.adapters.assembly import build_engine
from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.lines import Line, Redaction, journal_path
from authstate.adapters.journal.reader import read_journal
from authstate.adapters.journal.recorder import LineMaker, describe_program, record_journal
from authstate.adapters.report.replay import replay
from authstate.engine.model.errors import AuthError, IssuerUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.engine.version import VERSION
from authstate.testing import FakeAuthority, make_tokens


async def written(home: Path) -> list[Line]:
    """The lines, once the threads have written them."""
    for _ in range(3):
        await asyncio.to_thread(JournalFile(journal_path(home), 4096).drain)
    deadline = asyncio.get_running_loop().time() + 30.0
    while not (lines := read_journal(home).lines) or lines[-1].what != "ended":
        assert asyncio.get_running_loop().time() < deadline, lines
        await asyncio.sleep(0.005)
    return list(lines)


def kinds(lines: list[Line]) -> list[str]:
    return [line.what for line in lines]


async def engine_on(home: Path, authority: FakeAuthority) -> AuthEngine:
    engine = AuthEngine(AuthJsonStore(home), authority)
    record_journal(engine, home, 1024 * 1024)
    return engine


async def test_a_refresh_tells_each_of_its_steps(tmp_path: Path) -> None:
    tokens = make_tokens(expires_in=-60.0)
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    async with await engine_on(tmp_path, FakeAuthority(tokens)) as engine:
        await engine.refresh()
    lines = await written(tmp_path)
    assert kinds(lines) == [
        *("opened", "state_changed", "token_expired", "refresh_started", "claim", "sent", "answered", "claim"),
        *("state_changed", "refresh_ended", "ended"),
    ]
    assert [line.n for line in lines] == list(range(1, 12))
    assert {(line.by, line.pid) for line in lines} == {(lines[0].by, os.getpid())}
    assert lines[0].data["version"] == VERSION
    assert replay(lines).first is None


async def test_who_only_reads_writes_nothing(tmp_path: Path) -> None:
    """A script that asks for a token every minute must not push everything else out of the ring."""
    tokens = make_tokens()
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    before = sorted(os.listdir(tmp_path))
    async with await engine_on(tmp_path, FakeAuthority(tokens)) as engine:
        await engine.authorization()
    assert sorted(os.listdir(tmp_path)) == before


async def test_a_death_is_written_by_who_sent_the_token_and_by_nobody_who_finds_it_known(tmp_path: Path) -> None:
    """A script that asks for a token every minute goes on when the login is dead."""
    tokens = make_tokens(expires_in=-60.0)
    authority = FakeAuthority(tokens)
    authority.kill(RefreshDeadReason.REVOKED)
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    for _ in range(3):
        async with await engine_on(tmp_path, authority) as engine:
            with pytest.raises(PermanentRefreshError):
                await engine.refresh()
    lines = await written(tmp_path)
    assert len({line.by for line in lines}) == 1
    assert kinds(lines) == [
        *("opened", "state_changed", "token_expired", "refresh_started", "claim", "sent", "answered", "claim"),
        *("state_changed", "refresh_failed", "refresh_ended", "ended"),
    ]
    assert replay(lines).first is None


async def test_what_was_read_comes_before_the_first_thing_that_is_notable(tmp_path: Path) -> None:
    tokens = make_tokens()
    async with await engine_on(tmp_path, FakeAuthority(tokens)) as engine:
        await engine.complete_chatgpt_login(tokens)
        await engine.log_out()
    lines = await written(tmp_path)
    assert kinds(lines)[:4] == ["opened", "state_changed", "login_completed", "account_updated"]
    assert lines[1].data["trigger"] == "complete_chatgpt_login"


async def test_two_engines_of_one_home_are_one_journal(tmp_path: Path) -> None:
    tokens = make_tokens(expires_in=-60.0)
    authority = FakeAuthority(tokens)
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    async with await engine_on(tmp_path, authority) as first, await engine_on(tmp_path, authority) as second:
        await first.refresh()
        await second.reload()
    lines = await written(tmp_path)
    assert len({line.by for line in lines}) == 2
    assert replay(lines).first is None


async def test_lines_are_made_and_written_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    real = JournalFile._append

    def noted(self: JournalFile, data: bytes) -> None:
        threads.add(threading.current_thread().name)
        real(self, data)

    monkeypatch.setattr(JournalFile, "_append", noted)
    async with await engine_on(tmp_path, FakeAuthority()) as engine:
        await engine.complete_chatgpt_login(make_tokens())
    await written(tmp_path)
    assert threads == {"authstate-disk"}


def test_the_last_lines_are_written_when_the_program_ends(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from authstate import open_engine
from authstate.testing import FakeAuthority, make_tokens
async def main():
    tokens = make_tokens()
    async with open_engine(home=sys.argv[1], authority=FakeAuthority(tokens)) as engine:
        await engine.complete_chatgpt_login(tokens)
asyncio.run(main())
"""
    run_program(code, tmp_path)
    lines = list(read_journal(tmp_path).lines)
    assert kinds(lines)[-1] == "ended"
    assert lines[0].data["program"] == "-c"


def run_program(code: str, home: Path) -> None:
    """Run a program. Fails if it hangs."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE_")}
    subprocess.run([sys.executable, "-c", code, str(home)], check=True, env=plain, timeout=60)


def test_a_disk_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    code = """
import sys, threading
from authstate.adapters.journal import last_lines
from authstate.adapters.journal.journal_file import JournalFile
last_lines.PATIENCE = 0.05
JournalFile._append = lambda self, data: threading.Event().wait()
file = JournalFile(sys.argv[1] + "/journal", 4096)
last_lines.write_at_exit(file)
file.put(lambda: b"{}")
"""
    run_program(code, tmp_path)


def test_a_fault_in_one_journal_leaves_the_others(tmp_path: Path) -> None:
    code = """
import os, sys
from authstate.adapters.journal import last_lines
from authstate.adapters.journal.journal_file import JournalFile
files = [JournalFile(os.path.join(sys.argv[1], name, "journal"), 4096) for name in ("none", "", "pipe")]
os.mkdir(os.path.join(sys.argv[1], "pipe"))
os.mkdir(files[2].path)
def bad():
    raise ValueError
for file in files:
    last_lines.write_at_exit(file)
    file.put(bad)
    file.put(lambda: b"{}")
"""
    run_program(code, tmp_path)
    assert (tmp_path / "journal").read_bytes() == b"{}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_writes_no_line_of_its_parent_and_waits_for_none_of_its_locks(tmp_path: Path) -> None:
    code = """
import os, sys
from authstate.adapters.journal import last_lines
from authstate.adapters.journal.journal_file import JournalFile
file = JournalFile(sys.argv[1] + "/journal", 4096)
last_lines.write_at_exit(file)
file.put(lambda: b"{}")
file._lock.acquire()
last_lines.PATIENCE = 1e6
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert not os.path.exists(file.path)
file._lock.release()
"""
    run_program(code, tmp_path)
    assert (tmp_path / "journal").read_bytes() == b"{}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_an_engine_that_a_forked_child_goes_on_to_use_is_another_engine_in_the_journal(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.lines import journal_path
from authstate.adapters.journal.recorder import LineMaker, Recorder
from authstate.engine.model.events import Warned
recorder = Recorder(JournalFile(journal_path(sys.argv[1]), 4096), LineMaker(str))
async def warn(code):
    recorder.on_event(Warned(code, "message"))
asyncio.run(warn("parent"))
child = os.fork()
if child == 0:
    asyncio.run(warn("child"))
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    run_program(code, tmp_path)
    lines = {by: [line for line in read_journal(tmp_path).lines if line.by == by] for by in by_engine(tmp_path)}
    told = sorted([line.data.get("code", line.what), line.n] for one in lines.values() for line in one)
    assert told == [["child", 3], ["opened", 1], ["opened", 1], ["parent", 2]]
    assert len({line.pid for one in lines.values() for line in one}) == len(lines) == 2
    assert replay(read_journal(tmp_path).lines).first is None


def by_engine(home: Path) -> set[str]:
    return {line.by for line in read_journal(home).lines}


async def test_a_home_that_takes_no_journal_fails_no_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: JournalFile) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(JournalFile, "_open", broken)
    tokens = make_tokens(expires_in=-60.0)
    async with await engine_on(tmp_path, FakeAuthority(tokens)) as engine:
        await engine.complete_chatgpt_login(tokens)
        assert (await engine.refresh()).generation == 2
    assert not [name for name in os.listdir(tmp_path) if "journal" in name]


# Who keeps one


@pytest.mark.parametrize(("override", "keeps"), [("authstate.journal=on", True), ("authstate.journal=off", False)])
async def test_a_setting_turns_it_off(override: str, keeps: bool, tmp_path: Path) -> None:
    environment = Environment.read({"CODEX_HOME": str(tmp_path), "HOME": str(tmp_path)})
    config = load_config(tmp_path, [override], None, {})
    tokens = make_tokens()
    async with build_engine(config, environment, authority=FakeAuthority(tokens)) as engine:
        await engine.complete_chatgpt_login(tokens)
    if keeps:
        await written(tmp_path)
    assert any("journal" in name for name in os.listdir(tmp_path)) is keeps


@pytest.mark.parametrize("store", [MemoryStore(), None])
async def test_a_store_of_its_own_has_no_journal_in_the_home(store: MemoryStore | None, tmp_path: Path) -> None:
    if store is None:
        (tmp_path / "config.toml").write_text('cli_auth_credentials_store = "ephemeral"')
    tokens = make_tokens()
    async with open_engine(home=tmp_path, store=store, authority=FakeAuthority(tokens)) as engine:
        await engine.complete_chatgpt_login(tokens)
    assert not [name for name in os.listdir(tmp_path) if "journal" in name]


PACKAGE = os.path.dirname(authstate.__file__)


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["/usr/bin/authstate", "app-server", "-c", "x=secret"], "authstate app-server"),
        (["/usr/bin/authstate", "--account", "bob", "token"], "authstate token"),
        ([f"{PACKAGE}/__main__.py", "wrap", "--", "codex", "--key", "sk-1"], "authstate wrap"),
        ([f"{PACKAGE}/adapters/cli/__main__.py", "-c", "token", "status"], "authstate status"),
        (["/usr/bin/authstate", "report", "token"], "authstate"),
        (["/usr/bin/authstate", "--version"], "authstate"),
        (["/x/myapp/__main__.py", "token"], "myapp"),
        (["/x/cli/__main__.py", "wrap"], "cli"),
        (["/x/folder/", "token"], "folder"),
        (["/home/person/my tool.py", "login"], "my tool.py"),
        (["-c"], "-c"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_a_program_is_named_without_its_arguments(arguments: list[str], program: str) -> None:
    assert describe_program(arguments)["program"] == program


def test_a_program_that_is_the_working_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").mkdir()
    monkeypatch.chdir(tmp_path / "tool")
    assert describe_program(["."])["program"] == "tool"


# Secrets


def test_the_name_of_a_program_holds_no_secret(tmp_path: Path) -> None:
    program = "sk-live-abcdefghijk ada@example.com " + "x " * 50
    made = LineMaker(Redaction(str(tmp_path))).opened({"program": program, "version": "1"})()
    assert made.data == {"program": ("[redacted] [email] " + "x " * 50)[:80], "version": "1"}


CANARY = "CaNaRy"


async def test_a_journal_holds_no_secret(tmp_path: Path) -> None:
    """Every kind of credentials, and errors that repeat what they were given."""
    tokens = make_tokens(email=f"{CANARY}@example.com", account_id=f"org-{CANARY}-1", expires_in=-60.0)
    authority = FakeAuthority(tokens)
    async with await engine_on(tmp_path, authority) as engine:
        await engine.use_api_key(f"sk-{CANARY}-0123456789")
        await engine.complete_chatgpt_login(tokens)
        await engine.refresh()
        authority.fail_next(IssuerUnavailable(f"for {CANARY}@example.com: Bearer {CANARY}-12345678 in {tmp_path}"))
        await engine.refresh(patience=0.0)
        authority.kill(RefreshDeadReason.REVOKED)
        for _ in range(2):
            try:
                await engine.refresh()
            except AuthError:
                continue
        await engine.log_out()
    lines = await written(tmp_path)
    assert {"state_changed", "claim", "sent", "answered", "refresh_failed"} <= set(kinds(lines))
    text = Path(journal_path(tmp_path)).read_text()
    assert CANARY not in text and str(tmp_path) not in text
    for secret in (tokens.access_token, tokens.refresh_token, tokens.id_token):
        assert secret.reveal() not in text
    assert json.loads(text.splitlines()[0])["what"] == "opened"
