"""Many processes on one home that refresh at the same moment, round after round.

    python -m faults.many_processes --processes 16 --rounds 50

It starts a real issuer, signs in, forks the processes, and lets all of them go at once, each by a byte in its own pipe.
One more process reads auth.json in a tight loop all the time. Prints a report as one JSON object.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from faults.forked import engine_at, fork, name_of, status_of

from authstate.adapters.stores.codec import is_json_object
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.testing import LoopbackIssuer
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError

Json = dict[str, Any]


async def member(number: int, home: str, issuer: str, gate: int, reports: int) -> None:
    """One process: refresh each time a byte comes through the gate, and report the token it then holds."""
    async with engine_at(home, issuer) as engine:
        while True:
            tell(reports, number, name_of(engine.session.credentials))
            if not os.read(gate, 1):
                return
            try:
                await engine.refresh()
            except AuthError as error:
                tell(reports, number, f"{type(error).__name__}: {error}")
                return


async def reader(home: str, stop: int, reports: int) -> None:
    """Read the file until the gate closes; report how often, and how often it was not whole."""
    os.set_blocking(stop, False)
    path, reads, broken = os.path.join(home, "auth.json"), 0, 0
    while True:
        with open(path, "rb") as file:
            broken += not is_json_object(file.read())
        reads += 1
        if reads % 100 == 0:
            try:
                if not os.read(stop, 1):
                    break
            except BlockingIOError:
                continue
    tell(reports, -1, f"{reads} {broken}")


def tell(reports: int, number: int, text: str) -> None:
    os.write(reports, f"{number} {' '.join(text.split())[:400]}\n".encode())


async def sign_in(home: str, tokens: Json) -> None:
    """Store a login that the issuer knows."""
    tokens = {name: tokens[name] for name in ("id_token", "access_token", "refresh_token", "account_id")}
    async with AuthJsonStore(home).locked() as held:
        await held.save(ChatgptTokens.read(**tokens, last_refresh=time.time()))


class Group:
    """The processes, and the pipes that keep them together."""

    def __init__(self, home: str, issuer: str, processes: int) -> None:
        self.gates: list[int] = []
        self.children: list[int] = []
        end, self.reports = os.pipe()
        self.lines = os.fdopen(end)
        for number in range(processes):
            self.start(partial(member, number, home, issuer, reports=self.reports))
        self.start(lambda gate: reader(home, gate, self.reports))
        os.close(self.reports)

    def start(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        gate, mine = os.pipe()
        self.gates.append(mine)

        def child() -> Coroutine[Any, Any, None]:
            for other in self.gates:  # or they would never close
                os.close(other)
            signal.alarm(120)  # nobody outlives a run that went wrong
            return work(gate)

        self.children.append(fork(child))
        os.close(gate)

    def let_go(self) -> None:
        """Let every member refresh."""
        for gate in self.gates[:-1]:
            os.write(gate, b".")

    def end(self) -> None:
        """Let everybody come to an end."""
        for gate in self.gates:
            os.close(gate)

    def heard(self, count: int) -> list[str]:
        """What so many processes report, in the order of their numbers."""
        lines = [self.lines.readline().split(" ", 1) for _ in range(count)]
        return [text.strip() for _, text in sorted(lines, key=lambda line: int(line[0]))]


def run(processes: int, rounds: int) -> Json:
    """Returns the report."""
    with tempfile.TemporaryDirectory() as home, LoopbackIssuer() as issuer:
        asyncio.run(sign_in(home, issuer.seed()))
        group = Group(home, issuer.url, processes)
        heard, agreed, seconds, names = group.heard(processes), 0, [], set()
        for _ in range(rounds):
            began = time.monotonic()
            group.let_go()
            heard = group.heard(processes)
            seconds.append(time.monotonic() - began)
            stored = name_of(asyncio.run(AuthJsonStore(home).load()))
            agreed += set(heard) == {stored}
            names.add(stored)
            if any(" " in text for text in heard):
                break  # an error: the report shows it
        group.end()
        reads, broken = group.heard(1)[0].split()
        stats = issuer.stats()
        return {
            "processes": processes,
            "rounds": rounds,
            "refreshes_accepted": stats["refreshes_accepted"],
            "refreshes_refused": stats["refreshes_refused"],
            "rounds_where_all_hold_the_newest_token": agreed,
            "different_tokens": len(names),
            "errors": sorted({text for text in heard if " " in text}),
            "statuses": sorted({status_of(child) for child in group.children}),
            "reads": int(reads),
            "reads_of_half_a_file": int(broken),
            "left_in_the_home": sorted(os.listdir(home)),
            "median_round_ms": round(sorted(seconds)[len(seconds) // 2] * 1000, 1),
            "seconds": round(sum(seconds), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    json.dump(run(options.processes, options.rounds), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
