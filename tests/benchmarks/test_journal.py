"""What a line of the journal costs the event loop and the thread that writes it, and how fast a journal is replayed."""

import asyncio
import statistics
import time
from pathlib import Path

from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.lines import Redaction, journal_path
from authstate.adapters.journal.reader import read_journal
from authstate.adapters.journal.recorder import LineMaker, Recorder
from authstate.adapters.report.replay import replay
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_trace import TraceStep
from authstate.engine.model.events import Event
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

REFRESHES = 200
MOST_OFF_THE_LOOP = 50e-6
MOST_IN_THE_LOOP = 15e-6
"""Seconds for a line. Measured on two idle cores: about 20 and 3 microseconds."""


async def steps_of_refreshes() -> list[Event | TraceStep]:
    """What an engine tells of many refreshes."""
    told: list[Event | TraceStep] = []
    tokens = make_tokens(expires_in=-60.0)
    engine = AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))
    engine.subscribe(told.append)
    engine.subscribe_trace(told.append)
    async with engine:
        for _ in range(REFRESHES):
            await engine.refresh()
    return told


class NothingYet(JournalFile):
    """Takes lines, and writes none before it is told to."""

    def drain(self, patience: float = -1) -> None:
        """Leave them for later."""


async def test_a_line_costs_little(tmp_path: Path) -> None:
    told = await steps_of_refreshes()
    in_loop, off_loop = [], []
    for number in range(5):
        file = NothingYet(journal_path(tmp_path), 64 * 1024 * 1024)
        recorder = Recorder(file, LineMaker(Redaction(str(tmp_path)), by=str(number)))
        for first in range(0, len(told), 8):  # a refresh has about as many
            part = told[first : first + 8]
            began = time.thread_time()
            for one in part:
                recorder.on_event(one)
            in_loop.append((time.thread_time() - began) / len(part))
            began = time.thread_time()
            JournalFile.drain(file)
            off_loop.append((time.thread_time() - began) / len(part))
            await asyncio.sleep(0)
    figures = {"in the loop": statistics.median(in_loop), "off the loop": statistics.median(off_loop)}
    print({name: f"{seconds * 1e6:.1f} us a line" for name, seconds in figures.items()})
    assert figures["off the loop"] < MOST_OFF_THE_LOOP
    assert figures["in the loop"] < MOST_IN_THE_LOOP
    lines = [line for line in read_journal(tmp_path).lines if line.by == "0"]  # all five tell the same
    began = time.thread_time()
    assert replay(lines).first is None
    print(f"{(time.thread_time() - began) / len(lines) * 10_000:.3f} s for a replay of 10,000 lines")
