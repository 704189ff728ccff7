"""The ring of two files: bounded, shared by processes, and never a reason for a login to fail."""

import errno
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.lines import Line, encode, journal_path
from authstate.adapters.journal.reader import Journal, parse_journal, read_journal

UNIX = pytest.mark.skipif(sys.platform == "win32", reason="modes, locks and links are those of Unix")


def line(number: int, by: str = "a", at: float = 0.0) -> Line:
    return Line(1, at, by, number, 1, "warned", {"code": "x" * 50})


def written(number: int, by: str = "a") -> Callable[[], bytes]:
    return lambda: encode(line(number, by))


def numbers(home: Path) -> list[int]:
    return [found.n for found in read_journal(home).lines]


@pytest.fixture
def file(tmp_path: Path) -> JournalFile:
    return JournalFile(journal_path(tmp_path), 4096)


def fill(file: JournalFile, first: int, last: int) -> None:
    for number in range(first, last + 1):
        file.put(written(number))
        file.drain()


@UNIX
def test_a_journal_is_private(file: JournalFile, tmp_path: Path) -> None:
    fill(file, 1, 40)
    assert sorted(os.listdir(tmp_path)) == ["auth.json.authstate.journal", "auth.json.authstate.journal.1"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@UNIX
@pytest.mark.parametrize(
    ("folder", "before", "after"),
    [(0o700, 0o666, 0o600), (0o755, 0o644, 0o600), (0o700, 0o640, 0o640), (0o770, 0o666, 0o660)],
)
def test_a_journal_that_others_can_read_is_tightened(
    folder: int, before: int, after: int, file: JournalFile, tmp_path: Path
) -> None:
    """As the other files of the home: a group keeps its access if somebody chose that."""
    tmp_path.chmod(folder)
    Path(file.path).touch()
    os.chmod(file.path, before)
    fill(file, 1, 1)
    assert stat.S_IMODE(os.stat(file.path).st_mode) == after
    assert numbers(tmp_path) == [1]


@UNIX
def test_the_mode_of_another_users_journal_stays(
    file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(file.path).touch()
    os.chmod(file.path, 0o644)
    other = os.stat(file.path).st_uid + 1
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: other)
        fill(file, 1, 1)
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o644
    assert numbers(tmp_path) == [1]


def test_lines_of_one_batch_are_one_write(file: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: writes.append(data) or real(handle, data))
    for number in (1, 2, 3):
        file.put(written(number))
    file.drain()
    assert [data.count(b"\n") for data in writes] == [3]
    assert not file.has_waiting


def test_a_line_that_cannot_be_made_costs_only_itself(file: JournalFile, tmp_path: Path) -> None:
    def bad() -> bytes:
        raise ValueError("bad")

    file.put(written(1))
    file.put(bad)
    file.put(written(3))
    file.drain()
    assert numbers(tmp_path) == [1, 3]
    assert not file.has_waiting


def test_no_fault_of_any_kind_comes_out_of_drain(
    file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "_append", lambda self, data: [][1])
        fill(file, 1, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file.path} is not written (IndexError): the login works without it"
    ]
    file._quiet_until = 0.0
    fill(file, 3, 3)
    assert numbers(tmp_path) == [1, 2, 3]


def test_the_ring_keeps_the_last_lines_and_its_size(file: JournalFile, tmp_path: Path) -> None:
    fill(file, 1, 500)
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 501))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 2048 <= size <= 4096 + 2 * len(encode(line(500)))


def test_a_torn_line_costs_only_itself(file: JournalFile, tmp_path: Path) -> None:
    """A process was killed in the middle of a write, or the power failed."""
    fill(file, 1, 2)
    path = Path(file.path)
    path.write_bytes(path.read_bytes() + encode(line(3))[:30])
    fill(file, 4, 5)
    journal = read_journal(tmp_path)
    assert [found.n for found in journal.lines] == [1, 2, 4, 5]
    assert journal.unreadable == 1


def test_a_clock_that_jumps_changes_no_order(tmp_path: Path) -> None:
    """The order is that of the file, and not of the times in it."""
    lines = [line(1, at=100.0), line(2, at=5e9), line(3, at=-7.0), line(4, at=101.0)]
    Path(journal_path(tmp_path)).write_bytes(b"".join(encode(one) for one in lines))
    assert read_journal(tmp_path).lines == tuple(lines)


def test_an_older_release_leaves_out_lines_of_a_newer_format(tmp_path: Path) -> None:
    new = b'{"v":2,"at":1,"by":"b","n":1,"pid":1,"what":"warned","data":{"code":"x"}}'
    kind = b'{"v":1,"at":1,"by":"b","n":2,"pid":1,"what":"a new kind","data":{"new":1}}'
    assert parse_journal([new, kind]) == Journal((Line(1, 1.0, "b", 2, 1, "a new kind", {"new": 1}),), newer=1)


def test_two_processes_that_turn_the_ring_at_once_lose_nothing_of_it(tmp_path: Path) -> None:
    """Eight writers, each with a file as small as it may be: every turn is a race."""
    code = """
import sys
from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.lines import Line, encode, journal_path
file = JournalFile(journal_path(sys.argv[1]), 40_000)
sys.stdin.readline()
for number in range(1, 401):
    file.put(lambda: encode(Line(1, 0.0, sys.argv[2], number, 1, "warned", {"code": "x" * 50})))
    file.drain()
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE_")}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"w{one}"], stdin=subprocess.PIPE, env=plain)
        for one in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["auth.json.authstate.journal", "auth.json.authstate.journal.1"]
    journal = read_journal(tmp_path)
    assert journal.unreadable == 0
    by_writer: dict[str, list[int]] = {}
    for found in journal.lines:
        by_writer.setdefault(found.by, []).append(found.n)
    for kept in by_writer.values():
        assert kept == list(range(kept[0], kept[0] + len(kept))), "a line in the middle is lost"
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert max(sizes) <= 40_000 + 5 * len(encode(line(400, "w0")))
    assert (tmp_path / "auth.json.authstate.journal.1").stat().st_size > 20_000, "a small file took its place"


@UNIX
def test_who_comes_second_turns_no_new_file(file: JournalFile) -> None:
    """Another process made this file the second one while this one was writing."""
    fill(file, 1, 3)
    handle = os.open(file.path, os.O_RDWR)
    os.replace(file.path, file.predecessor)
    Path(file.path).write_bytes(encode(line(9)))
    file._turn_locked(handle)
    os.close(handle)
    assert Path(file.path).read_bytes() == encode(line(9))


def test_where_an_open_file_cannot_be_renamed_it_is_closed_first(
    file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authstate.adapters.journal.journal_file._WINDOWS", True)
    fill(file, 1, 100)
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 101)) and kept[0] > 1
    file._turn()
    assert numbers(tmp_path) == kept, "a file that is not full stays"


@UNIX
def test_while_a_process_stands_still_that_turns_the_ring_the_file_stays_bounded(
    file: JournalFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    fill(file, 1, 2)
    with open(file.path, "rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        fill(file, 3, 200)
        assert Path(file.path).stat().st_size <= 4096 + 2 * len(encode(line(200)))
        assert not Path(file.predecessor).exists()
    assert len(caplog.records) == 1
    kept = numbers(tmp_path)
    assert kept == list(range(1, kept[-1] + 1))


@pytest.mark.parametrize("is_windows", [False, True])
def test_a_journal_whose_size_was_lowered_is_turned(
    is_windows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(JournalFile(journal_path(tmp_path), 1024 * 1024), 1, 100)
    assert Path(journal_path(tmp_path)).stat().st_size > 2 * 2048
    if is_windows:
        monkeypatch.setattr("authstate.adapters.journal.journal_file._WINDOWS", True)
    fill(JournalFile(journal_path(tmp_path), 4096), 101, 101)
    assert numbers(tmp_path) == list(range(1, 102))
    assert Path(journal_path(tmp_path)).read_bytes() == encode(line(101))
    assert caplog.records == []


@UNIX
def test_a_journal_that_is_too_large_and_cannot_be_turned_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    file = JournalFile(journal_path(tmp_path), 4096, lambda: now[0])
    Path(file.path).write_bytes(encode(line(1)) * 100)
    os.mkdir(file.predecessor)
    fill(file, 2, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file.path} is not written (it is too large, and cannot be renamed: {os.strerror(errno.EISDIR)}): "
        "the login works without it"
    ]
    os.rmdir(file.predecessor)
    now[0] = 31.0
    fill(file, 4, 4)
    assert numbers(tmp_path) == [1, 2, 3, 4]


# Disks that do not take it


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    file = JournalFile(journal_path(home), 4096)
    fill(file, 1, 2)
    assert not home.exists()
    home.mkdir()
    fill(file, 3, 3)
    assert numbers(home) == [1, 2, 3], "the first login makes the home, and is in the journal"
    assert caplog.records == []


def test_a_full_disk_costs_one_log_line_and_no_line_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    file = JournalFile(journal_path(tmp_path), 4096, lambda: now[0])
    tries: list[int] = []

    def full(handle: int, data: bytes) -> int:
        tries.append(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "authstate"):
        patched.setattr(os, "write", full)
        fill(file, 1, 5)
        assert len(tries) == 1, "nothing is tried for half a minute"
        now[0] = 31.0
        fill(file, 6, 6)
        assert len(tries) == 2
    now[0] = 62.0
    fill(file, 7, 7)
    assert numbers(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    assert [record.getMessage() for record in caplog.records] == [
        f"{file.path} is not written (No space left on device): the login works without it"
    ]


def test_a_disk_that_takes_half_of_a_line_counts_as_full(
    file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda handle, data: real(handle, data[:20]))
        fill(file, 1, 1)
    file._quiet_until = 0.0
    fill(file, 2, 2)
    journal = read_journal(tmp_path)
    assert [found.n for found in journal.lines] == [1, 2]
    assert journal.unreadable == 1


def test_what_waits_is_bounded(file: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "_open", lambda self: os.open("/nowhere/at/all", os.O_RDONLY))
        for number in range(1, 2001):
            file.put(written(number))
            if number % 100 == 0:
                file.drain()
    big = JournalFile(file.path, 10_000_000)
    big._waiting = file._waiting
    big.drain()
    assert numbers(tmp_path) == list(range(2001 - 512, 2001)), "the oldest were dropped"


@UNIX
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "hard link"])
def test_what_has_its_name_is_left_alone(
    kind: str, file: JournalFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    place = Path(file.path)
    make: dict[str, Callable[[], object]] = {
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "link": lambda: place.symlink_to(other),
        "hard link": lambda: os.link(other, place),
    }
    make[kind]()
    fill(file, 1, 2)
    assert other.read_text() == "theirs"
    assert len(caplog.records) == 1
    assert read_journal(tmp_path).lines == ()


def test_reading_says_what_it_could_not_read(tmp_path: Path) -> None:
    os.mkdir(journal_path(tmp_path))
    Path(journal_path(tmp_path) + ".1").write_bytes(encode(line(1)) + b"\n\n")
    journal = read_journal(tmp_path)
    assert [found.n for found in journal.lines] == [1]
    assert journal.faults == ("auth.json.authstate.journal cannot be read: is a directory",)


def test_a_line_that_is_in_both_files_counts_once() -> None:
    """The first file became the second one while it was read."""
    found = [encode(line(1)).rstrip(), encode(line(2)).rstrip(), encode(line(1)).rstrip()]
    assert [one.n for one in parse_journal(found).lines] == [1, 2]
    assert json.loads(found[0])["v"] == 1
