"""Kills a process (SIGKILL) at every step of a refresh and checks what the next process finds.

    python -m faults.kill_sweep --kills 300

Each victim is a real process that refreshes with a real HTTP issuer. It records its steps in shared memory. The script
waits for a step there, and reads afterwards which step was the last one before the kill. A quarter of the kills are
spread over the whole run of the victim. The others come near the issuer's answer, where a token can be lost.

After each kill, auth.json must be complete and private. The next process must start, take the lock, leave no temporary
file, and refresh. Only a kill between the moment when the issuer spends the token and the rename may lose the newest
token: then the next process is refused, and the script signs in again. Prints a report as one JSON object.
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
from faults.forked_processes import engine_at, exit_status_of, fork, token_digest
from faults.many_processes import sign_in

from authstate.adapters.stores.auth_json_format import decode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import PermanentRefreshError
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.testing import LoopbackIssuer

Json = dict[str, Any]
STEPS = ("locked", "asked", "answered", "renamed")
LONGEST_LIFE = 60
"""Seconds after which a process that hangs is ended by SIGALRM."""


class StepTimes:
    """The time of each step of a process, in seconds of the monotonic clock. Shared memory: it survives a kill."""

    NAMES = ("began", "locked", "asked", "answered", "filled", "renamed", "done")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * len(self.NAMES))
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)

    def clear(self) -> None:
        self._memory[:] = bytes(len(self._memory))

    def record(self, name: str) -> None:
        place = self.NAMES.index(name)
        self._memory[8 * place : 8 * place + 8] = struct.pack("d", time.monotonic())
        os.write(self._wake_writer, b".")

    def wait(self, name: str, deadline: float) -> None:
        """Return when a step was recorded, or at the deadline, whichever is first."""
        while not self.time_of(name) and (left := deadline - time.monotonic()) > 0:
            if select.select([self._wake_reader], [], [], left)[0]:
                os.read(self._wake_reader, 100)

    def time_of(self, name: str) -> float:
        """The time of a step; 0 if it was not reached."""
        place = self.NAMES.index(name)
        moment: float = struct.unpack("d", self._memory[8 * place : 8 * place + 8])[0]
        return moment

    def last_step(self) -> str:
        """The name of the last step that was reached."""
        return [name for name in self.NAMES if self.time_of(name) or name == "began"][-1]


class RecordingDisk(Disk):
    """The real disk. Records the steps of the first save."""

    def __init__(self, times: StepTimes) -> None:
        self._times = times

    def create(self, path: str) -> None:
        super().create(path)
        self._times.record("locked")

    def rename(self, source: str, target: str) -> None:
        if not target.endswith("auth.json"):
            super().rename(source, target)  # a claim
            return
        self._times.record("filled")
        super().rename(source, target)
        self._times.record("renamed")


class RecordingAuthority:
    """A token endpoint over real HTTP. Records when a request is sent and when it is answered."""

    def __init__(self, inner: Any, times: StepTimes) -> None:
        self._inner, self._times = inner, times

    async def refresh(self, refresh_token: Secret) -> Any:
        # Send any request first, so that what follows "asked" does not include the setup of the HTTP client.
        await self._inner.revoke(Secret("a token that nobody knows"))
        self._times.record("asked")
        answer = await self._inner.refresh(refresh_token)
        self._times.record("answered")
        return answer

    async def revoke(self, refresh_token: Secret) -> None:
        await self._inner.revoke(refresh_token)


async def victim(home: str, issuer: str, times: StepTimes) -> None:
    """The process that is killed: it starts an engine and refreshes."""
    signal.alarm(LONGEST_LIFE)
    times.record("began")
    engine = engine_at(home, issuer, RecordingDisk(times), lambda inner: RecordingAuthority(inner, times))
    async with engine:
        await engine.recover(Authorization.of(engine.session))  # after a 401, a token in doubt is sent too
        times.record("done")


async def next_process(home: str, issuer: str, report: int) -> None:
    """The process after the kill. Its start must clean up, and its refresh must find the lock free."""
    signal.alarm(LONGEST_LIFE)
    async with engine_at(home, issuer) as engine:
        left = leftovers(home)
        began = time.monotonic()
        try:
            await engine.recover(Authorization.of(engine.session))  # after a 401, a token in doubt is sent too
            outcome = "refreshed"
        except PermanentRefreshError as dead:
            outcome = str(dead.reason)
        answer = {"outcome": outcome, "seconds": time.monotonic() - began, "left_after_start": left}
        os.write(report, json.dumps(answer).encode())


def leftovers(home: str) -> list[str]:
    return [name for name in os.listdir(home) if name != "auth.json" and ".authstate." not in name]


@dataclass
class Kill:
    """At which step one kill came, and what it left."""

    moment: str
    """The last step of the victim."""
    spent: bool
    """Whether the issuer had spent the token."""
    is_newest_stored: bool
    """Whether auth.json holds the newest tokens that the issuer granted."""
    left: int
    """How many temporary files with content it left."""
    status: int


@dataclass
class Sweep:
    """One run of the script: the kills so far, and how long refreshes without a kill took."""

    home: str
    issuer: LoopbackIssuer
    rng: random.Random
    times: StepTimes = field(default_factory=StepTimes)
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unstored_windows: list[float] = field(default_factory=list)
    next_refreshes: list[float] = field(default_factory=list)
    start_to_end: list[float] = field(default_factory=list)
    """Seconds from the fork to the end, of the victims that were not killed. The next two are of these as well."""
    request_to_rename: list[float] = field(default_factory=list)
    answer_to_rename: list[float] = field(default_factory=list)

    def stored(self) -> str:
        return token_digest(asyncio.run(AuthJsonStore(self.home).load()))

    def start(self) -> tuple[int, float]:
        self.times.clear()
        child = fork(lambda: victim(self.home, self.issuer.url, self.times))
        return child, time.monotonic()

    def run_without_kill(self) -> None:
        """Refresh without a kill. Measure it, and the window in which a kill loses the new tokens."""
        child, began = self.start()
        if exit_status_of(child) != 0:
            self.faults.append("a refresh that nobody killed failed")
        when = self.times.time_of
        self.unstored_windows.append(when("renamed") - self.issuer.stats()["refreshes_accepted_at"][-1])
        self.start_to_end.append(when("done") - began)
        self.request_to_rename.append(when("renamed") - when("asked"))
        self.answer_to_rename.append(when("renamed") - when("answered"))

    def kill(self, after: str) -> None:
        """Kill a victim at a random moment after the step "began", "asked" or "answered"."""
        before, accepted = self.stored(), self.issuer.stats()["refreshes_accepted"]
        child, began = self.start()
        self.times.wait(after, began + LONGEST_LIFE)
        durations = {"began": self.start_to_end, "asked": self.request_to_rename, "answered": self.answer_to_rename}
        longest = 1.2 * statistics.median(durations[after])
        moment = (self.times.time_of(after) or began) + self.rng.uniform(0.0, longest)
        self.times.wait("done", moment)
        os.kill(child, signal.SIGKILL)
        self.check_after_kill(before, accepted, exit_status_of(child))

    def is_enough(self, kills: int) -> bool:
        """Whether there are this many kills: at least one after each step, and one that lost the newest token."""
        fell = [kill for kill in self.kills if kill.status == -signal.SIGKILL]
        after = {kill.moment for kill in fell}
        return len(fell) >= kills and after >= {*STEPS} and not all(kill.is_newest_stored for kill in fell)

    def check_after_kill(self, before: str, accepted: int, status: int) -> None:
        """Check what the kill left and what the next process does. Add what is wrong to `faults`."""
        left = [name for name in leftovers(self.home) if Path(self.home, name).read_bytes().strip()]
        path = os.path.join(self.home, "auth.json")
        if stat.S_IMODE(os.stat(path).st_mode) != 0o600:
            self.faults.append(f"the mode of auth.json is {os.stat(path).st_mode:o}")
        after = token_digest(decode(Path(path).read_bytes(), path).credentials)  # raises if it is not complete
        outcome = self.run_next_process()  # the issuer may read the victim's request even after this process's
        is_newest_stored = outcome != "exhausted"
        spent = after != before or not is_newest_stored
        self.kills.append(Kill(self.times.last_step(), spent, is_newest_stored, len(left), status))
        granted = self.issuer.stats()["refreshes_accepted"] - accepted
        if outcome not in ("refreshed", "exhausted") or granted != (2 if after != before else 1):
            where = f"after a kill at {self.times.last_step()!r}"
            self.faults.append(
                f"{where}, the next process ended {outcome!r}, and the issuer granted {granted} refreshes"
            )
        if not is_newest_stored and (not self.times.time_of("asked") or self.times.time_of("renamed")):
            self.faults.append(f"a kill at {self.times.last_step()!r} lost the newest tokens")
        if not is_newest_stored:
            asyncio.run(sign_in(self.home, self.issuer.seed()))

    def run_next_process(self) -> str:
        """Run a process after the kill. Returns "refreshed", the reason why it was refused, or "" if it failed."""
        ours, report = os.pipe()
        child = fork(lambda: next_process(self.home, self.issuer.url, report))
        os.close(report)
        with os.fdopen(ours) as pipe:
            text = pipe.read()
        if exit_status_of(child) != 0 or not text:
            self.faults.append("the next process failed or hung")
            return ""
        answer = json.loads(text)
        self.next_refreshes.append(answer["seconds"])
        if answer["left_after_start"] or leftovers(self.home):
            self.faults.append(f"temporary files after the next start: {answer['left_after_start']}")
        return str(answer["outcome"])

    def report(self, seconds: float) -> Json:
        kills = self.kills
        lost = [kill for kill in kills if not kill.is_newest_stored]
        return {
            "kills": sum(kill.status == -signal.SIGKILL for kill in kills),
            "came_too_late": sum(kill.status != -signal.SIGKILL for kill in kills),
            "kills_after": {name: Counter(kill.moment for kill in kills)[name] for name in StepTimes.NAMES},
            "lost_newest_tokens": len(lost),
            "lost_after": dict(Counter(kill.moment for kill in lost)),
            "kills_that_left_a_temporary_file_with_content": sum(kill.left > 0 for kill in kills),
            "faults": self.faults,
            "window_ms": {
                "median": round(statistics.median(self.unstored_windows) * 1000, 3),
                "longest": round(max(self.unstored_windows) * 1000, 3),
                "refreshes": len(self.unstored_windows),
            },
            "next_refresh_ms": {
                "median": round(statistics.median(self.next_refreshes) * 1000, 1),
                "longest": round(max(self.next_refreshes) * 1000, 1),
            },
            "seconds": round(seconds, 1),
        }


@contextmanager
def single_certificate_authority() -> Iterator[None]:
    """Let the processes load one certificate authority only.

    Loading all of them takes longer than the rest of a victim's run, and this issuer needs none.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        bundle = Path(certifi.where()).read_text(encoding="utf-8")
        file.write(bundle[bundle.index("-----BEGIN") : bundle.index("-----END CERTIFICATE-----") + 26])
        file.flush()
        os.environ["SSL_CERT_FILE"] = file.name
        yield
        del os.environ["SSL_CERT_FILE"]


def run(kills: int, seed: int) -> Json:
    """Run the sweep. Returns the report."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home, LoopbackIssuer() as issuer, single_certificate_authority():
        sweep = Sweep(home, issuer, random.Random(seed))
        asyncio.run(sign_in(home, issuer.seed()))
        for _ in range(15):
            sweep.run_without_kill()
        for number in range(5 * kills):
            if sweep.is_enough(kills):
                break
            sweep.kill(after=("began", "asked", "asked", "answered")[number % 4])
            if number % 8 == 0:
                sweep.run_without_kill()
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
