"""The leases of a vault: made, found, ended and expired, whatever the clocks, the disk and other processes do."""

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from support.failing_disk import FailingDisk

from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault import lease_book
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.machines.lease import Lease, LeaseRequest, LeaseState
from authstate.engine.model.account import Account
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import ManualClock

PERSON = Account("person@example.com", account_id="org-1", user_id="user-1")
DAY = 86_400.0


def request(ttl: float | None = None, account: str = "home", **more: bool) -> LeaseRequest:
    return LeaseRequest(account, PERSON, ttl=ttl, label="ci", **more)


def book_of(folder: Path | None, clock: ManualClock, disk: Disk | None = None) -> LeaseBook:
    """A book of a process that starts now."""
    return LeaseBook(None if folder is None else str(folder), now=clock.now, monotonic=clock.monotonic, disk=disk)


def state_of(book: LeaseBook, handle: LeaseHandle) -> str | None:
    lease = book.find(handle)
    return None if lease is None else lease.state.value


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


# Making, finding and ending


@pytest.mark.parametrize("is_in_memory", [False, True])
def test_a_lease_is_made_found_and_ended(tmp_path: Path, clock: ManualClock, is_in_memory: bool) -> None:
    book = book_of(None if is_in_memory else tmp_path, clock)
    lease, handle = book.make(request(ttl=60.0))
    assert (lease.account, lease.workspace_id, lease.user_id) == ("home", "org-1", "user-1")
    assert (lease.label, lease.created_at, lease.expires_at) == ("ci", clock.now(), clock.now() + 60)
    assert (lease.state, lease.is_of_home) == (LeaseState.ACTIVE, False)
    assert book.find(handle) == lease
    assert book.leases() == (lease,)
    ended = book.end(lease.id)
    assert ended.state is LeaseState.ENDED
    assert book.find(handle) == ended == book.end(lease.id), "ending it again changes nothing"


def test_every_handle_is_another_one_and_finds_its_own_lease(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    made = [book.make(request()) for _ in range(20)]
    assert len({lease.digest for lease, _ in made}) == 20
    assert all(book.find(handle) == lease for lease, handle in made)
    assert book.find(LeaseHandle.of(bytes(32))) is None


def test_no_handle_is_stored(tmp_path: Path, clock: ManualClock) -> None:
    _, handle = book_of(tmp_path, clock).make(request())
    for file in tmp_path.iterdir():
        assert handle.secret.reveal()[-43:] not in file.read_text()


def test_a_lease_that_is_not_there_cannot_be_ended(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match="there is no lease 0123abcd: `authstate lease list` shows the ids"):
        book_of(tmp_path, clock).end("0123abcd")
    for name in ("nobody\x1b", "", "0123abcd\n", LeaseHandle.of(bytes(32)).secret.reveal()):
        with pytest.raises(ConfigError, match=r"^this is no id of a lease: `authstate lease list` shows the ids$"):
            book_of(tmp_path, clock).end(name)


def test_a_label_is_stored_without_what_a_terminal_would_execute(tmp_path: Path, clock: ManualClock) -> None:
    lease, _ = book_of(tmp_path, clock).make(LeaseRequest("home", PERSON, label="a\x1b[2Jb" + "x" * 100))
    assert lease.label == "a\ufffd[2Jb" + "x" * 58


def test_all_leases_of_an_account_end_with_it(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    handles = {account: book.make(request(account=account))[1] for account in ("one", "two")}
    book.end_all_of("one")
    assert [state_of(book, handle) for handle in handles.values()] == ["ended", "active"]
    before = (tmp_path / "leases.json").stat().st_mtime_ns
    book.end_all_of("one")
    book.end_all_of("nobody")
    assert (tmp_path / "leases.json").stat().st_mtime_ns == before


def test_the_leases_of_the_home_end_but_for_the_one_that_stands_there(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    handles = [book.make(request(is_of_home=is_of_home))[1] for is_of_home in (True, True, False)]
    book.end_of_home(besides=handles[1])
    assert [state_of(book, handle) for handle in handles] == ["ended", "active", "active"]
    book.end_of_home()
    assert [state_of(book, handle) for handle in handles] == ["ended", "ended", "active"]


@pytest.mark.parametrize("ttl", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_makes_no_lease(tmp_path: Path, clock: ManualClock, ttl: float) -> None:
    """JSON has neither infinity nor NaN: such a lease would have no end in the file."""
    book = book_of(tmp_path, clock)
    with pytest.raises(ConfigError, match="longer than 0 seconds, and finite"):
        book.make(request(ttl=ttl))
    assert book.leases() == ()


# The clocks


def test_a_lease_expires_with_its_time(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    _, handle = book.make(request(ttl=60.0))
    clock.advance(59.9)
    assert state_of(book, handle) == "active"
    clock.advance(0.1)
    assert state_of(book, handle) == "expired"
    assert book.leases()[0].state is LeaseState.EXPIRED


def test_a_wall_clock_that_is_set_back_prolongs_no_lease(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    _, handle = book.make(request(ttl=60.0))
    clock.advance(30)
    clock.jump_wall(-DAY)
    assert state_of(book, handle) == "active"
    clock.advance(30)
    assert state_of(book, handle) == "expired", "a minute has passed, whatever the wall clock says"


def test_a_process_that_starts_while_the_wall_clock_is_behind_counts_at_most_the_time_of_the_lease(
    tmp_path: Path, clock: ManualClock
) -> None:
    _, handle = book_of(tmp_path, clock).make(request(ttl=60.0))
    clock.jump_wall(-365 * DAY)
    later = book_of(tmp_path, clock)
    assert state_of(later, handle) == "active"
    clock.advance(60)
    assert state_of(later, handle) == "expired"


@pytest.mark.parametrize("look", ["find", "leases"])
def test_a_lease_that_was_found_to_be_over_never_comes_back(tmp_path: Path, clock: ManualClock, look: str) -> None:
    """The wall clock jumps forward and back. The table has no row back, in no process."""
    book = book_of(tmp_path, clock)
    _, handle = book.make(request(ttl=60.0))
    clock.jump_wall(DAY)
    assert (book.find(handle) if look == "find" else book.leases()[0]).state == "expired"  # type: ignore[union-attr]
    clock.jump_wall(-DAY)
    assert state_of(book, handle) == "expired"
    assert state_of(book_of(tmp_path, clock), handle) == "expired", "and in another process"


def test_a_jump_that_nobody_saw_ends_nothing(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    _, handle = book.make(request(ttl=60.0))
    clock.jump_wall(DAY)
    clock.jump_wall(-DAY)
    assert state_of(book, handle) == "active"


def test_a_lease_stays_over_in_its_process_though_that_cannot_be_recorded(tmp_path: Path, clock: ManualClock) -> None:
    disk = FailingDisk()
    book = book_of(tmp_path, clock, disk)
    _, handle = book.make(request(ttl=60.0))
    disk.failing["publish"] = "leases.json"
    clock.jump_wall(DAY)
    assert state_of(book, handle) == "expired"
    clock.jump_wall(-DAY)
    assert state_of(book, handle) == "expired"
    assert state_of(book_of(tmp_path, clock), handle) == "active", "another process has not seen it"
    disk.failing.clear()
    book.make(request())
    assert state_of(book_of(tmp_path, clock), handle) == "expired", "the next change records it"


def test_an_expired_lease_costs_one_write_however_often_it_is_asked_for(tmp_path: Path, clock: ManualClock) -> None:
    class Counting(Disk):
        published = 0

        def publish(self, path: str, data: bytes, temporary: str) -> None:
            self.published += 1
            super().publish(path, data, temporary)

    disk = Counting()
    book = book_of(tmp_path, clock, disk)
    _, handle = book.make(request(ttl=60.0))
    clock.advance(60)
    for _ in range(50):
        assert state_of(book, handle) == "expired"
    assert disk.published == 2


def test_an_expired_lease_of_another_process_is_known_without_a_write(tmp_path: Path, clock: ManualClock) -> None:
    one, other = book_of(tmp_path, clock), book_of(tmp_path, clock)
    _, handle = one.make(request(ttl=60.0))
    assert state_of(other, handle) == "active"
    clock.advance(60)
    assert state_of(one, handle) == state_of(other, handle) == "expired"
    with pytest.raises(ConfigError):
        one.end("nobody")


# Bounds


def test_leases_that_are_over_for_30_days_are_dropped(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    old, _ = book.make(request(ttl=60.0))
    ended, _ = book.make(request())
    kept, handle = book.make(request())
    book.end(ended.id)
    clock.advance(29 * DAY)
    book.make(request())
    assert {lease.id for lease in book.leases()} > {old.id, ended.id, kept.id}
    clock.advance(DAY + 60)
    book.make(request())
    assert {old.id, ended.id}.isdisjoint(lease.id for lease in book.leases())
    assert state_of(book, handle) == "active"


def test_too_many_leases_are_refused_and_one_that_ends_makes_room(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_book, "_MOST", 3)
    book = book_of(tmp_path, clock)
    made = [book.make(request())[0] for _ in range(3)]
    with pytest.raises(ConfigError, match=r"there are 3 leases, and no more are possible: end some with `authstate"):
        book.make(request())
    book.end(made[1].id)
    newest, _ = book.make(request())
    assert [lease.id for lease in book.leases()] == [made[0].id, made[2].id, newest.id]


def test_ten_thousand_leases_are_made_found_and_read(tmp_path: Path, clock: ManualClock) -> None:
    leases = [
        Lease(f"{number:08x}", f"{number:064x}", "home", "org-1", "user-1", "x" * 64, clock.now(), clock.now() + DAY)
        for number in range(9_999)
    ]
    (tmp_path / "leases.json").write_bytes(msgspec.json.encode(leases))
    book = book_of(tmp_path, clock)
    _, handle = book.make(request())
    assert state_of(book_of(tmp_path, clock), handle) == "active"
    assert len(book.leases()) == 10_000
    with pytest.raises(ConfigError, match="10000 leases"):
        book.make(request())


def test_what_is_remembered_of_dropped_leases_is_bounded(clock: ManualClock) -> None:
    book = book_of(None, clock)
    for _ in range(10):
        for _ in range(20):
            book.make(request(ttl=1.0))
        clock.advance(31 * DAY)
        assert {lease.state for lease in book.leases()} == {LeaseState.EXPIRED}
    assert len(book._ends) < 150
    assert len(book._recorded) < 150


# Disks and files


def test_a_full_disk_makes_no_lease_and_ends_none_silently(tmp_path: Path, clock: ManualClock) -> None:
    lease, handle = book_of(tmp_path, clock).make(request())
    book = book_of(tmp_path, clock, FailingDisk(publish="leases.json"))
    for change in (lambda: book.make(request()), lambda: book.end(lease.id), lambda: book.end_all_of("home")):
        with pytest.raises(StoreUnavailable, match=r"leases\.json"):
            change()
    assert state_of(book, handle) == "active", "its owner knows that it was not ended"


def test_a_damaged_file_yields_no_lease_and_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    _, handle = book.make(request())
    (tmp_path / "leases.json").write_text('[{"id": "ab", "digest": 7}]')
    for look in (book.leases, lambda: book.find(handle), lambda: book.make(request()), lambda: book.end("ab")):
        with pytest.raises(StoreUnreadable, match=r"leases\.json cannot be read"):
            look()
    assert "7" in (tmp_path / "leases.json").read_text()


def test_a_removed_file_yields_no_lease(tmp_path: Path, clock: ManualClock) -> None:
    book = book_of(tmp_path, clock)
    _, handle = book.make(request())
    (tmp_path / "leases.json").unlink()
    assert book.find(handle) is None


# Several processes

WORKER = """
import sys
from authstate.adapters.vault import json_file
json_file._LOCK_WITHIN = 180.0  # a lock is not given in turn, and a busy disk takes its time
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.machines.lease import LeaseRequest
from authstate.engine.model.account import Account
book = LeaseBook(sys.argv[1])
sys.stdin.readline()
for number in range(20):
    lease, handle = book.make(LeaseRequest(sys.argv[2], Account(account_id="org-1")))
    if number % 2:
        book.end(lease.id)
    print(handle.text().reveal(), "ended" if number % 2 else "active", flush=True)
"""
WATCHER = """
import sys
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.model.lease_handle import LeaseHandle
book = LeaseBook(sys.argv[1])
for line in sys.stdin:
    lease = book.find(LeaseHandle.parse(line.strip()))
    print(None if lease is None else lease.state.value, flush=True)
"""


@contextmanager
def python(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_processes_that_make_and_end_leases_at_once_lose_none(tmp_path: Path) -> None:
    with python(WORKER, tmp_path, "a") as a, python(WORKER, tmp_path, "b") as b, python(WORKER, tmp_path, "c") as c:
        lines = [line for process in (a, b, c) for line in process.communicate("\n", timeout=200)[0].splitlines()]
    book = LeaseBook(str(tmp_path))
    assert len(lines) == len(book.leases()) == 60
    for line in lines:
        text, expected = line.split()
        handle = LeaseHandle.parse(text)
        assert handle is not None
        assert state_of(book, handle) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leases.json", "leases.json.lock"]


def test_an_ended_lease_yields_nothing_to_another_process_at_once(tmp_path: Path) -> None:
    book = LeaseBook(str(tmp_path))
    with python(WATCHER, tmp_path) as watcher:
        for _ in range(100):
            lease, handle = book.make(request())
            text = handle.text().reveal()
            assert ask(watcher, text) == "active"
            book.end(lease.id)
            assert ask(watcher, text) == "ended"
