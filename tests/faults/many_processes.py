"""Lets many processes refresh one home at the same moment, round after round.

    python -m faults.many_processes --processes 16 --rounds 50

Starts a real issuer, signs in and forks the processes. A byte in the pipe of each process starts its next refresh. One
more process reads auth.json in a loop all the time. Prints a report as one JSON object.
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

from faults.forked_processes import engine_at, exit_status_of, fork, token_digest

from authstate.adapters.stores.auth_json_format import is_json_object
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError
from authstate.testing import LoopbackIssuer

Json = dict[str, Any]


async def refresher(number: int, home: str, issuer: str, start_pipe: int, reports: int) -> None:
    """One process: report the token that it holds, and refresh for each byte from `start_pipe`. End when it closes."""
    async with engine_at(home, issuer) as engine:
        while True:
            report(reports, number, token_digest(engine.session.credentials))
            if not os.read(start_pipe, 1):
                return
            try:
                await engine.refresh()
            except AuthError as error:
                report(reports, number, f"{type(error).__name__}: {error}")
                return


async def file_reader(home: str, stop: int, reports: int) -> None:
    """Read auth.json until the pipe `stop` closes. Report the number of reads, and of reads of an incomplete file."""
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
    report(reports, -1, f"{reads} {broken}")


def report(reports: int, number: int, text: str) -> None:
    """Write one line to the pipe of the reports: the number of the process, and a text."""
    os.write(reports, f"{number} {' '.join(text.split())[:400]}\n".encode())


async def sign_in(home: str, tokens: Json) -> None:
    """Store a login. `tokens` is what `LoopbackIssuer.seed` returned."""
    tokens = {name: tokens[name] for name in ("id_token", "access_token", "refresh_token", "account_id")}
    async with AuthJsonStore(home).locked() as held:
        await held.save(ChatgptTokens.read(**tokens, last_refresh=time.time()))


class ProcessGroup:
    """The processes, a pipe to each of them, and a pipe on which they report."""

    def __init__(self, home: str, issuer: str, processes: int) -> None:
        self.start_pipes: list[int] = []
        self.children: list[int] = []
        end, self.reports = os.pipe()
        self.lines = os.fdopen(end)
        for number in range(processes):
            self.start(partial(refresher, number, home, issuer, reports=self.reports))
        self.start(lambda start_pipe: file_reader(home, start_pipe, self.reports))
        os.close(self.reports)

    def start(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Fork a process. `work` gets the reading end of its pipe."""
        start_pipe, our_end = os.pipe()
        self.start_pipes.append(our_end)

        def child() -> Coroutine[Any, Any, None]:
            for other in self.start_pipes:  # a pipe closes only when every process has closed it
                os.close(other)
            signal.alarm(600)  # end even if the run fails
            return work(start_pipe)

        self.children.append(fork(child))
        os.close(start_pipe)

    def start_round(self) -> None:
        """Let every process refresh once. The last pipe is that of the reader, which refreshes nothing."""
        for start_pipe in self.start_pipes[:-1]:
            os.write(start_pipe, b".")

    def stop(self) -> None:
        """Close the pipes, so that every process ends."""
        for start_pipe in self.start_pipes:
            os.close(start_pipe)

    def read_reports(self, count: int) -> list[str]:
        """Wait for the reports of this many processes. Returns them in the order of the numbers."""
        lines = [self.lines.readline().split(" ", 1) for _ in range(count)]
        return [text.strip() for _, text in sorted(lines, key=lambda line: int(line[0]))]


def run(processes: int, rounds: int) -> Json:
    """Run all rounds. Returns the report."""
    with tempfile.TemporaryDirectory() as home, LoopbackIssuer() as issuer:
        asyncio.run(sign_in(home, issuer.seed()))
        group = ProcessGroup(home, issuer.url, processes)
        reported, agreed, seconds, names = group.read_reports(processes), 0, [], set()
        for _ in range(rounds):
            began = time.monotonic()
            group.start_round()
            reported = group.read_reports(processes)
            seconds.append(time.monotonic() - began)
            stored = token_digest(asyncio.run(AuthJsonStore(home).load()))
            agreed += set(reported) == {stored}
            names.add(stored)
            if any(" " in text for text in reported):
                break  # an error: the report shows it
        group.stop()
        reads, broken = group.read_reports(1)[0].split()
        stats = issuer.stats()
        return {
            "processes": processes,
            "rounds": rounds,
            "refreshes_accepted": stats["refreshes_accepted"],
            "refreshes_refused": stats["refreshes_refused"],
            "rounds_where_all_hold_the_newest_token": agreed,
            "different_tokens": len(names),
            "errors": sorted({text for text in reported if " " in text}),
            "statuses": sorted({exit_status_of(child) for child in group.children}),
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
