"""Answers to processes of codex 0.93.0 that share a home: the next one waits until auth.json was written."""

import asyncio
import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from authstate.adapters.broker import answer_turns
from authstate.adapters.broker.answer_turns import SUFFIX, AnswerTurns
from authstate.testing import ManualClock


class Home:
    """A home with an auth.json, and the turns of two brokers in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.auth = folder / "auth.json"
        self.note = Path(f"{self.auth}{SUFFIX}")
        self.clock = ManualClock()
        self.brokers = [AnswerTurns(self.clock) for _ in range(2)]
        self.write()

    def write(self, seconds_ago: float = 60.0) -> None:
        """Write auth.json, as codex does. That was some time ago, so that nothing is in the middle of it."""
        self.auth.write_text("{}")
        then = self.auth.stat().st_mtime_ns - int(seconds_ago * 1e9)
        os.utime(self.auth, ns=(then, then))

    def edit_note(self, until: float) -> None:
        """Change when the last turn is over."""
        self.note.write_text(json.dumps(json.loads(self.note.read_text()) | {"until": until}))

    async def is_given(self, broker: int = 0) -> bool:
        """Whether a broker may give an answer at once."""
        asked = asyncio.ensure_future(self.brokers[broker].wait_in_home(str(self.folder)))
        await self.clock.settle()
        if asked.done():
            return True
        asked.cancel()
        return False


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(answer_turns, "LONGEST_TURN", 3600.0)
    return Home(tmp_path)


async def test_the_next_one_waits_until_the_file_was_written(home: Home) -> None:
    assert await home.is_given(0)
    assert not await home.is_given(0)
    assert not await home.is_given(1), "another broker of the same home waits, too"
    home.write(seconds_ago=50)
    assert await home.is_given(1)
    assert not await home.is_given(0)


async def test_who_waits_gets_its_turn(home: Home) -> None:
    assert await home.is_given()
    asked = asyncio.ensure_future(home.brokers[1].wait_in_home(str(home.folder)))
    await home.clock.elapse(1.0)
    assert not asked.done()
    home.write(seconds_ago=50)
    await home.clock.elapse(0.1)
    assert asked.done()


async def test_a_file_that_is_being_written_is_not_whole_yet(home: Home) -> None:
    assert await home.is_given()
    ahead = home.auth.stat().st_mtime_ns + 7200 * 10**9
    os.utime(home.auth, ns=(ahead, ahead))  # written less than a moment ago, whatever the time is
    assert not await home.is_given()


async def test_nobody_waits_for_longer_than_a_turn(home: Home) -> None:
    assert await home.is_given()
    home.edit_note(until=1.0)
    assert await home.is_given()


async def test_a_clock_that_was_put_back_ends_a_turn(home: Home) -> None:
    assert await home.is_given()
    home.edit_note(until=1e12)
    assert await home.is_given()


async def test_nobody_waits_for_all_turns_together_for_longer_than_some_seconds(home: Home) -> None:
    assert await home.is_given()
    asked = asyncio.ensure_future(home.brokers[1].wait_in_home(str(home.folder)))
    await home.clock.elapse(4.9)
    assert not asked.done()
    await home.clock.elapse(0.2)
    assert asked.done()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"until": "x"}', b"[]"])
async def test_a_damaged_note_is_no_turn(home: Home, content: bytes) -> None:
    home.note.write_bytes(content)
    assert await home.is_given()
    assert not await home.is_given()


async def test_a_broker_that_is_in_the_middle_of_its_turn_is_waited_for(home: Home) -> None:
    handle = os.open(home.note, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert not await home.is_given()
    os.close(handle)
    assert await home.is_given()


@pytest.mark.parametrize("what", ["no home", "no auth.json", "a link", "no file locks"])
async def test_where_nothing_can_be_noted_there_are_no_turns(
    home: Home, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "no home":
        home.folder /= "missing"
    elif what == "no auth.json":
        home.auth.unlink()
    elif what == "a link":
        home.note.symlink_to(home.folder / "elsewhere")
    else:
        monkeypatch.setattr(answer_turns, "fcntl", None)
    assert [await home.is_given(), await home.is_given()] == [True, True]
    assert not (home.folder / "elsewhere").exists()


async def test_the_note_is_for_its_owner_only(home: Home) -> None:
    assert await home.is_given()
    assert stat.S_IMODE(home.note.stat().st_mode) == 0o600


async def test_where_auth_json_is_not_known_each_gets_a_moment(home: Home) -> None:
    turns = home.brokers[0]
    await turns.wait_elsewhere("a")
    await turns.wait_elsewhere("b")
    asked = [asyncio.ensure_future(turns.wait_elsewhere("a")) for _ in range(2)]
    await home.clock.settle()
    assert [task.done() for task in asked] == [False, False]
    await home.clock.elapse(0.025)
    assert [task.done() for task in asked] == [True, False]
    await home.clock.elapse(0.025)
    assert asked[1].done()


async def test_the_turns_that_are_kept_are_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_turns, "_MOST_TURNS", 3)
    turns = home.brokers[0]
    for number in range(10):
        home.clock.advance(1.0)
        await turns.wait_elsewhere(str(number))
    assert len(turns._next_turns) <= 4
