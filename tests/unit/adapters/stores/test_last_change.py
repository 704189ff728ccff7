"""Who changed what is stored: told in the error, in `authstate status`, and without a secret."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authstate import AuthEngine, AuthState, ChatgptTokens, RefreshSettings
from authstate.adapters.child.command_line import ephemeral_command
from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.home_lock import HomeLock, SaveRecord
from authstate.adapters.stores.last_change import _codex_processes, digest_of, last_change
from authstate.adapters.stores.memory import MemoryStore
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason, StoreUnavailable
from authstate.engine.ports import LastChange
from authstate.testing import FakeAuthority, ManualClock, make_external_tokens, make_tokens

QUICK = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))
NOON = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


async def store_at(home: Path, tokens: ChatgptTokens | ApiKey) -> AuthJsonStore:
    store = AuthJsonStore(home, clock=ManualClock(NOON))
    async with store.locked() as held:
        await held.save(tokens)
    return store


def marks_of(home: Path) -> list[SaveRecord]:
    return HomeLock(str(home), Disk(), ManualClock(), 0.0).recent_saves()


def changed_by_another_program(home: Path, tokens: ChatgptTokens, at: float = NOON + 60.0) -> None:
    """As codex does: in place, without the lock."""
    (home / "auth.json").write_bytes(encode(tokens, None))
    os.utime(home / "auth.json", (at, at))


async def dead_reason(store: AuthJsonStore | MemoryStore, issuer: FakeAuthority) -> PermanentRefreshError:
    async with AuthEngine(store, issuer, settings=QUICK) as engine:
        with pytest.raises(PermanentRefreshError) as first:
            await engine.refresh()
        with pytest.raises(PermanentRefreshError) as again:
            await engine.refresh()
        assert str(first.value) == str(again.value)
        assert engine.session.state is AuthState.REFRESH_DEAD
        assert engine.session.failure is not None
        assert engine.session.failure.message == str(first.value)
    return first.value


def spent(*logins: ChatgptTokens) -> FakeAuthority:
    issuer = FakeAuthority(*logins)
    issuer.kill(RefreshDeadReason.EXHAUSTED)
    return issuer


async def test_a_token_that_another_program_stored_and_spent(tmp_path: Path) -> None:
    store, foreign = await store_at(tmp_path, make_tokens()), make_tokens()
    changed_by_another_program(tmp_path, foreign)
    error = await dead_reason(store, spent(foreign))
    assert error.reason is RefreshDeadReason.EXHAUSTED
    assert str(error) == (
        "Your sign-in was used up: its refresh token works only once and was spent already. "
        f"{tmp_path}/auth.json was last changed at 2027-01-15 08:01:00 UTC by a program that does not take authstate's "
        "lock. Sign in again: `authstate login`. What is stored was not changed."
    )


def test_a_save_that_is_tried_again_pushes_no_mark_out(tmp_path: Path) -> None:
    """Else what is stored would look like another program's after three tries that failed."""
    (tmp_path / "auth.json.authstate.lock").touch()
    lock = HomeLock(str(tmp_path), Disk(), ManualClock(), 0.0)
    for digest in ("stored", "tried", "tried", "tried"):
        lock.record_save(digest)
    assert [mark.digest for mark in lock.recent_saves()] == ["stored", "tried"]


async def test_a_token_that_is_ours_and_was_spent_from_a_copy(tmp_path: Path) -> None:
    tokens = make_tokens()
    error = await dead_reason(await store_at(tmp_path, tokens), spent(tokens))
    assert error.detail == (
        f"{tmp_path}/auth.json was last changed by authstate (process {os.getpid()}) at 2027-01-15 08:00:00 UTC. "
        "So a copy of this login is probably in use elsewhere: another machine, or another CODEX_HOME."
    )


async def test_another_account_and_a_removal_by_another_program(tmp_path: Path) -> None:
    for change, expected in (
        (lambda: changed_by_another_program(tmp_path, make_tokens(account_id="org-2")), "was last changed at 2027-"),
        (lambda: (tmp_path / "auth.json").unlink(), "was removed at "),
    ):
        tokens = make_tokens()
        store = await store_at(tmp_path, tokens)
        async with AuthEngine(store, FakeAuthority(tokens), settings=QUICK) as engine:
            change()
            with pytest.raises(PermanentRefreshError) as caught:
                await engine.refresh()
        assert caught.value.reason is RefreshDeadReason.ACCOUNT_CHANGED
        assert expected in caught.value.detail
        assert "by a program that does not take authstate's lock" in caught.value.detail


async def test_another_account_and_a_logout_under_the_lock(tmp_path: Path) -> None:
    tokens = make_tokens()
    store = await store_at(tmp_path, tokens)
    async with AuthEngine(store, FakeAuthority(tokens), settings=QUICK) as engine:
        async with AuthJsonStore(tmp_path, clock=ManualClock(NOON + 3600.0)).locked() as held:
            await held.delete()
        with pytest.raises(PermanentRefreshError, match=r"was removed by authstate \(.*\) at 2027-01-15 09:00"):
            await engine.refresh()
        assert engine.session.state is AuthState.REFRESH_DEAD


async def test_reasons_that_no_other_program_causes_ask_nobody(tmp_path: Path) -> None:
    tokens = make_tokens()
    issuer = FakeAuthority(tokens)
    issuer.kill(RefreshDeadReason.REVOKED)
    assert (await dead_reason(await store_at(tmp_path, tokens), issuer)).detail == ""


class Witness(MemoryStore):
    """A store that knows, or not, who changed it."""

    answer: LastChange | StoreUnavailable | None = None

    async def last_change(self) -> LastChange | None:
        if isinstance(self.answer, StoreUnavailable):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (None, ""),
        (StoreUnavailable("it cannot be read"), ""),
        (LastChange("Somebody did it.", True), "Somebody did it."),
    ],
)
async def test_a_store_may_know_or_not(answer: LastChange | StoreUnavailable | None, detail: str) -> None:
    tokens = make_tokens()
    store = Witness(tokens)
    store.answer = answer
    assert (await dead_reason(store, spent(tokens))).detail == detail
    assert (await dead_reason(MemoryStore(tokens), spent(tokens))).detail == ""


async def test_a_save_that_fails_leaves_the_last_one_ours(tmp_path: Path) -> None:
    store = await store_at(tmp_path, make_tokens())
    (tmp_path / "auth.json").rename(tmp_path / "kept")
    (tmp_path / "auth.json").mkdir()
    other = make_tokens()
    for _ in range(3):
        async with store.locked() as held:
            with pytest.raises(StoreUnavailable):
                await held.save(other)
    (tmp_path / "auth.json").rmdir()
    (tmp_path / "kept").rename(tmp_path / "auth.json")
    change = await store.last_change()
    assert change is not None
    assert not change.is_foreign


async def test_the_mark_holds_no_secret_and_a_spoilt_one_does_no_harm(tmp_path: Path) -> None:
    tokens = make_tokens(refresh_token="rt-canary-9")
    store = await store_at(tmp_path, tokens)
    lock = tmp_path / "auth.json.authstate.lock"
    assert re.fullmatch(rb'\[\{"digest":"[0-9a-f]{16}","at":1800000000.0,"pid":\d+\}\]', lock.read_bytes())
    for spoilt in (b"{", b"null", b"\xff" * 9000):
        lock.write_bytes(spoilt)
        assert marks_of(tmp_path) == []
        change = await store.last_change()
        assert change is not None
        assert change.is_foreign
        await store_at(tmp_path, tokens)
        assert len(marks_of(tmp_path)) == 1


def test_digests_tell_credentials_apart() -> None:
    keys = ApiKey.parse("sk-1"), ApiKey.parse("sk-2")
    assert len({digest_of(one) for one in (make_tokens(), make_tokens(), *keys, None)}) == 5
    assert digest_of(make_external_tokens()) == digest_of(None) == "nothing"


def test_a_time_that_no_calendar_has_is_no_fault() -> None:
    for at in (float("inf"), 1e20, float("nan")):
        change = last_change(None, None, [SaveRecord("nothing", at, 7)], "the place", "/")
        assert change.message == "the place was removed by authstate (process 7) at an unknown time."


@pytest.fixture
def start_codex(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts programs that Linux shows as codex, each with an environment and words of its command line."""
    (tmp_path / "codex").symlink_to("/bin/sh")
    running: list[subprocess.Popen[bytes]] = []

    def start(home: dict[str, str], *words: str) -> int:
        pipe = subprocess.PIPE
        command = [str(tmp_path / "codex"), "-c", "read line; echo; read line", *words]
        process = subprocess.Popen(command, env=home, stdin=pipe, stdout=pipe)
        running.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x\n")
        process.stdin.flush()
        process.stdout.readline()  # it runs: its name and its environment are there
        return process.pid

    yield start
    for process in running:
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which process uses a home")
def test_a_codex_process_that_uses_the_home_is_named(tmp_path: Path, start_codex: Callable[..., int]) -> None:
    homes = {"CODEX_HOME": str(tmp_path)}, {"HOME": str(tmp_path / "user")}, {"CODEX_HOME": "/elsewhere"}
    here, below, _ = map(start_codex, homes)
    found = last_change(None, None, [], "the place", str(tmp_path)).message
    assert found.endswith(f"lock. codex uses this home just now (process {here}).")
    found = last_change(None, None, [], "the place", str(tmp_path / "user" / ".codex")).message
    assert found.endswith(f"(process {below}).")
    assert "codex uses" not in last_change(None, None, [], "the place", str(tmp_path / "x")).message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which process uses a home")
def test_a_codex_that_holds_its_login_in_memory_is_not_named(tmp_path: Path, start_codex: Callable[..., int]) -> None:
    home = {"CODEX_HOME": str(tmp_path)}
    child = [str(tmp_path / "codex"), *ephemeral_command(["codex", "app-server"])[1:]]
    start_codex(home, *child)
    start_codex(home, "--config=cli_auth_credentials_store=ephemeral", "app-server")
    assert "codex uses" not in last_change(None, None, [], "the place", str(tmp_path)).message
    named = start_codex(home, "-c", 'cli_auth_credentials_store="file"', "app-server")
    found = last_change(None, None, [], "the place", str(tmp_path)).message
    assert found.endswith(f"codex uses this home just now (process {named}).")


def test_status_shows_who_and_what_to_do(tmp_path: Path) -> None:
    """The whole way: the command line, a real issuer, and auth.json that another program changed."""
    from authstate.testing import LoopbackIssuer

    with LoopbackIssuer() as issuer:
        login = issuer.seed(expires_in=-60.0)
        foreign = ChatgptTokens.read(**login)
        changed_by_another_program(tmp_path, foreign)
        issuer.behave("refresh", mode="status", status=401, code="refresh_token_reused")
        environment = {**os.environ, **issuer.environment, "CODEX_HOME": str(tmp_path)}
        ran = subprocess.run(
            [sys.executable, "-m", "authstate.adapters.cli", "status"],
            env={name: value for name, value in environment.items() if not name.startswith("COV_CORE_")},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 2, ran.stderr
    assert "auth.json was last changed at 2027-01-15 08:01:00 UTC by a program that does not take" in ran.stdout
    assert "`authstate login`" in ran.stdout
    assert login["refresh_token"] not in ran.stdout + ran.stderr


def test_where_no_processes_can_be_listed_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", hidden)
    assert list(_codex_processes(str(tmp_path))) == []
