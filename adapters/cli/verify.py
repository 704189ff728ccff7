"""`authstate verify`: checks a server of the account API, and reports."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from authstate.adapters.child.process import ChildNotStarted
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.conformance.actions import ACTIONS, Ending, Outcome, play
from authstate.adapters.conformance.history import Setting
from authstate.adapters.conformance.report import Report, as_json, as_text, make_report
from authstate.adapters.conformance.scenarios import scenarios
from authstate.adapters.io.temporary_folder import temporary_folder
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer


class Run(Protocol):
    """Runs a history, and leaves out the actions to avoid."""

    def __call__(self, actions: Sequence[str], avoid: Collection[Ending] = ()) -> Outcome:
        """See `play`."""
        ...


def verify(options: argparse.Namespace) -> int:
    """Run the histories, print the report, and return an exit status.

    Raises:
        UsageError: hypothesis is missing, `--history` names an unknown action, or `--report` names no file that can be
            written.
        OSError: the report cannot be written.
    """
    _ensure_writable(options.report)
    _ensure_known(options.history)
    with ExitStack() as running:
        run = _runner(options, running)
        try:
            first = run(("start",))
            if not first.user_agent:
                why = "; ".join(first.failed.values())
                return print_error(f"the server cannot be run: {why}", ExitStatus.USAGE)
            outcomes = [first, *_outcomes(options, run)]
        except ChildNotStarted as error:
            return print_error(str(error), ExitStatus.USAGE)
        finally:
            _show("")
    report = make_report(options.child, options.seed, outcomes)
    _write(report, options.json, options.report)
    return ExitStatus.NOT_SIGNED_IN if report.has_failed else ExitStatus.DONE


def _runner(options: argparse.Namespace, running: ExitStack) -> Run:
    """Return what runs a history. As many may run at once as `--jobs` says, each with an issuer of its own."""
    folder = running.enter_context(temporary_folder("authstate-verify-"))
    free: SimpleQueue[Setting] = SimpleQueue()
    for _ in range(options.jobs):
        free.put(Setting(options.child, running.enter_context(LoopbackIssuer()), folder))
    numbers = count()

    def run(actions: Sequence[str], avoid: Collection[Ending] = ()) -> Outcome:
        setting, number = free.get(), next(numbers)
        _show(f"history {number + 1}: {', '.join(actions)}")
        try:
            return play(setting, number, actions, avoid)
        finally:
            free.put(setting)

    return run


def _outcomes(options: argparse.Namespace, run: Run) -> list[Outcome]:
    if options.history is not None:
        return [run(options.history.split(","))]
    search = _search() if options.runs else None
    outcomes = _fixed(options, run)
    if search is not None:
        outcomes += search(run, outcomes, runs=options.runs, steps=options.steps, start=options.seed)
    return outcomes


def _fixed(options: argparse.Namespace, run: Run) -> list[Outcome]:
    pool = ThreadPoolExecutor(options.jobs)
    try:
        return list(pool.map(run, scenarios(slow=options.slow)))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, only those that run are waited for


def _ensure_writable(file: Path | None) -> None:
    """Refuse a report that could not be written in the end, before the minutes that the run takes."""
    if file is None:
        return
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--report: there is no folder {file.parent}: make it, or name another file")
    if file.is_dir():
        raise UsageError(f"--report: {file} is a folder: name a file")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise UsageError(f"--report: {file} cannot be written: name another file, or change its permissions")


def _ensure_known(history: str | None) -> None:
    if unknown := [name for name in (history or "start").split(",") if name not in ACTIONS]:
        raise UsageError(f"--history names unknown actions ({', '.join(unknown)}): use {', '.join(ACTIONS)}")


def _show(text: str) -> None:
    """Show a person on a terminal what is done; "" clears the line. Elsewhere, for example in CI, print nothing."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{text[:width]:<{width}}" if text else f"\r{' ' * width}\r")
        sys.stderr.flush()


def _search() -> Callable[..., list[Outcome]]:
    try:
        from authstate.adapters.conformance.search import search
    except ImportError:
        raise UsageError(
            "generated histories need the package hypothesis: pip install 'authstate[verify]', or use --runs 0"
        ) from None
    return search


def _write(report: Report, is_json: bool, file: Path | None) -> None:
    text = json.dumps(as_json(report), indent=2) + "\n" if is_json else as_text(report)
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
        print(f"Wrote the report to {file}.")
