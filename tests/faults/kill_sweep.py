"""Kill -9 a process at every moment of a refresh, and look at what the next one finds.

    python -m faults.kill_sweep --kills 300

Every victim is a real process that refreshes with a real HTTP issuer. It notes on shared memory what it has done, so
that the killer can wait for a moment and, afterwards, knows where the kill fell. A part of the kills is spread over the
whole life of the victim; most are dense around the issuer's answer, which is where a token can be lost.

After each kill auth.json must be whole and private, and the next process must start, take the lock, leave no temporary
file, and refresh. Only a kill after the issuer has decided and before the rename may lose the newest token: then the
next process is refused, and somebody signs in again. Prints a report as one JSON object.
"""

import argparse
import asyncio
import json
import mmap
import os
import random
import select
import signal
import stat
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi
from faults.forked import engine_at, fork, name_of, status_of
from faults.many_processes import sign_in

from authstate.adapters.stores.codec import decode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.testing import LoopbackIssuer
from authstate.engine.model.credentials import Secret
from authstate.engine.model.errors import PermanentRefreshError
from authstate.engine.model.session import Authorization

Json = dict[str, Any]
STEPS = ("locked", "asked", "answered", "renamed")
NEXT_START_SECONDS = 20  # a hanging process ends itself by SIGALRM


class Notes:
    """When a process did what, in seconds of the monotonic clock, on memory that outlives it."""

    NAMES = ("began", "locked", "asked", "answered", "filled", "renamed", "done")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * len(self.NAMES))
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)

    def clear(self) -> None:
        self._memory[:] = bytes(len(self._memory))

    def note(self, name: str) -> None:
        place = self.NAMES.index(name)
        self._memory[8 * place : 8 * place + 8] = struct.pack("d", time.monotonic())
        os.write(self._rope, b".")

    def wait(self, name: str, deadline: float) -> None:
        """Return when this happened, or at that moment."""
        while not self.when(name) and (left := deadline - time.monotonic()) > 0:
            if select.select([self._bell], [], [], left)[0]:
                os.read(self._bell, 100)

    def when(self, name: str) -> float:
        """0 if it did not happen."""
        place = self.NAMES.index(name)
        moment: float = struct.unpack("d", self._memory[8 * place : 8 * place + 8])[0]
        return moment

    def last(self) -> str:
        """The last thing that happened."""
        return [name for name in self.NAMES if self.when(name) or name == "began"][-1]


class NotedDisk(Disk):
    """The real disk; notes the steps of the first save."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def create(self, path: str) -> None:
        super().create(path)
        self._notes.note("locked")

    def rename(self, source: str, target: str) -> None:
        if not target.endswith("auth.json"):
            super().rename(source, target)  # a claim
            return
        self._notes.note("filled")
        super().rename(source, target)
        self._notes.note("renamed")


class NotedAuthority:
    """The real issuer over HTTP; notes the question and the answer."""

    def __init__(self, inner: Any, notes: Notes) -> None:
        self._inner, self._notes = inner, notes

    async def refresh(self, refresh_token: Secret) -> Any:
        # Any request: then what follows is the question itself, and not the making of an HTTP client.
        await self._inner.revoke(Secret("a token that nobody knows"))
        self._notes.note("asked")
        answer = await self._inner.refresh(refresh_token)
        self._notes.note("answered")
        return answer

    async def revoke(self, refresh_token: Secret) -> None:
        await self._inner.revoke(refresh_token)


async def victim(home: str, issuer: str, notes: Notes) -> None:
    """What gets killed: a start and a refresh."""
    signal.alarm(NEXT_START_SECONDS)
    notes.note("began")
    engine = engine_at(home, issuer, NotedDisk(notes), lambda inner: NotedAuthority(inner, notes))
    async with engine:
        await engine.recover(Authorization.of(engine.session))  # the backend refused: a doubt is sent, too
        notes.note("done")


async def successor(home: str, issuer: str, report: int) -> None:
    """The next process: a start, which must clean up, and a refresh, which must find the lock free."""
    signal.alarm(NEXT_START_SECONDS)
    async with engine_at(home, issuer) as engine:
        left = leftovers(home)
        began = time.monotonic()
        try:
            await engine.recover(Authorization.of(engine.session))  # the backend refused: a doubt is sent, too
            outcome = "refreshed"
        except PermanentRefreshError as dead:
            outcome = str(dead.reason)
        answer = {"outcome": outcome, "seconds": time.monotonic() - began, "left_after_start": left}
        os.write(report, json.dumps(answer).encode())


def leftovers(home: str) -> list[str]:
    return [name for name in os.listdir(home) if name != "auth.json" and ".authstate." not in name]


@dataclass
class Kill:
    """Where one kill fell, and what it left."""

    moment: str
    """The last thing that the victim had done."""
    decided: bool
    """The issuer had spent the token by then."""
    kept: bool
    """What the issuer gave is in auth.json (or it gave nothing)."""
    left: int
    """Temporary files with something in them, before the next start."""
    status: int


@dataclass
class Sweep:
    """One run."""

    home: str
    issuer: LoopbackIssuer
    chance: random.Random
    notes: Notes = field(default_factory=Notes)
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    windows: list[float] = field(default_factory=list)
    nexts: list[float] = field(default_factory=list)
    lives: list[float] = field(default_factory=list)
    """Of victims that were let live: seconds from the fork to the end, from the question to the rename, and from the
    answer to the rename."""
    spendings: list[float] = field(default_factory=list)
    storings: list[float] = field(default_factory=list)

    def stored(self) -> str:
        return name_of(asyncio.run(AuthJsonStore(self.home).load()))

    def start(self) -> tuple[int, float]:
        self.notes.clear()
        child = fork(lambda: victim(self.home, self.issuer.url, self.notes))
        return child, time.monotonic()

    def let_live(self) -> None:
        """A refresh without a kill: how long it takes, and the window in which a kill may lose the tokens."""
        child, began = self.start()
        if status_of(child) != 0:
            self.faults.append("a refresh that nobody killed failed")
        when = self.notes.when
        self.windows.append(when("renamed") - self.issuer.stats()["refreshes_accepted_at"][-1])
        self.lives.append(when("done") - began)
        self.spendings.append(when("renamed") - when("asked"))
        self.storings.append(when("renamed") - when("answered"))

    def kill(self, after: str) -> None:
        """Kill a victim some time after it began, asked or was answered."""
        before, accepted = self.stored(), self.issuer.stats()["refreshes_accepted"]
        child, began = self.start()
        self.notes.wait(after, began + NEXT_START_SECONDS)
        longest = {"began": self.lives, "asked": self.spendings, "answered": self.storings}[after]
        moment = (self.notes.when(after) or began) + self.chance.uniform(0.0, 1.2 * statistics.median(longest))
        self.notes.wait("done", moment)
        os.kill(child, signal.SIGKILL)
        self.look(before, accepted, status_of(child))

    def is_enough(self, kills: int) -> bool:
        """So many kills, one at least after each step, and one at least that lost the newest token."""
        fell = [kill for kill in self.kills if kill.status == -signal.SIGKILL]
        after = {kill.moment for kill in fell}
        return len(fell) >= kills and after >= {*STEPS} and not all(kill.kept for kill in fell)

    def look(self, before: str, accepted: int, status: int) -> None:
        """What the kill left, and how the next process copes."""
        left = [name for name in leftovers(self.home) if Path(self.home, name).read_bytes().strip()]
        path = os.path.join(self.home, "auth.json")
        if stat.S_IMODE(os.stat(path).st_mode) != 0o600:
            self.faults.append(f"the mode of auth.json is {os.stat(path).st_mode:o}")
        after = name_of(decode(Path(path).read_bytes(), path).credentials)  # raises when it is not whole
        decided = self.decided(accepted)
        kept = after != before if decided else after == before
        self.kills.append(Kill(self.notes.last(), decided, kept, len(left), status))
        outcome = self.succeed()
        if outcome != ("refreshed" if kept else "exhausted"):
            self.faults.append(f"after a kill at {self.notes.last()!r}, the next process ended {outcome!r}")
        if not kept and (not decided or self.notes.when("renamed")):
            self.faults.append(f"a kill at {self.notes.last()!r} lost the newest tokens")
        if not kept:
            asyncio.run(sign_in(self.home, self.issuer.seed()))

    def decided(self, accepted: int) -> bool:
        """Whether the issuer spent the token. A request that was on its way when its sender died may still be read, but
        not later than a few questions after it.
        """
        if not self.notes.when("asked"):
            return False
        for _ in range(5):
            count: int = self.issuer.stats()["refreshes_accepted"]
            if count > accepted:
                break
        return count > accepted

    def succeed(self) -> str:
        ours, report = os.pipe()
        child = fork(lambda: successor(self.home, self.issuer.url, report))
        os.close(report)
        with os.fdopen(ours) as pipe:
            text = pipe.read()
        if status_of(child) != 0 or not text:
            self.faults.append("the next process failed or hung")
            return ""
        answer = json.loads(text)
        self.nexts.append(answer["seconds"])
        if answer["left_after_start"] or leftovers(self.home):
            self.faults.append(f"temporary files after the next start: {answer['left_after_start']}")
        return str(answer["outcome"])

    def report(self, seconds: float) -> Json:
        kills = self.kills
        lost = [kill for kill in kills if not kill.kept]
        return {
            "kills": sum(kill.status == -signal.SIGKILL for kill in kills),
            "came_too_late": sum(kill.status != -signal.SIGKILL for kill in kills),
            "kills_after": {name: Counter(kill.moment for kill in kills)[name] for name in Notes.NAMES},
            "lost_newest_tokens": len(lost),
            "lost_after": dict(Counter(kill.moment for kill in lost)),
            "kills_that_left_a_temporary_file_with_content": sum(kill.left > 0 for kill in kills),
            "faults": self.faults,
            "window_ms": {
                "median": round(statistics.median(self.windows) * 1000, 3),
                "longest": round(max(self.windows) * 1000, 3),
                "refreshes": len(self.windows),
            },
            "next_refresh_ms": {
                "median": round(statistics.median(self.nexts) * 1000, 1),
                "longest": round(max(self.nexts) * 1000, 1),
            },
            "seconds": round(seconds, 1),
        }


@contextmanager
def one_authority() -> Iterator[None]:
    """Let every process of the sweep trust one certificate authority: reading them all would take it longer than the
    rest of its life, and this issuer has no certificate.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        bundle = Path(certifi.where()).read_text(encoding="utf-8")
        file.write(bundle[bundle.index("-----BEGIN") : bundle.index("-----END CERTIFICATE-----") + 26])
        file.flush()
        os.environ["SSL_CERT_FILE"] = file.name
        yield
        del os.environ["SSL_CERT_FILE"]


def run(kills: int, seed: int) -> Json:
    """Returns the report."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home, LoopbackIssuer() as issuer, one_authority():
        sweep = Sweep(home, issuer, random.Random(seed))
        asyncio.run(sign_in(home, issuer.seed()))
        for _ in range(15):
            sweep.let_live()
        for number in range(5 * kills):
            if sweep.is_enough(kills):
                break
            sweep.kill(after=("began", "asked", "asked", "answered")[number % 4])
            if number % 8 == 0:
                sweep.let_live()
        return sweep.report(time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    json.dump(run(options.kills, options.seed), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
