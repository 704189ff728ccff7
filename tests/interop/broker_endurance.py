"""Many children of mixed kinds over one broker, for long: `python -m interop.broker_endurance`, in `tests/`.

    expiries   N children use one account. Its access token is refused M times. Each time costs one refresh.
    kills      the broker is killed with -9 and started again, while children run turns.

It prints its figures. CI runs a small one of each (test_broker_endurance.py).
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from interop.test_leased_children import adopt, lease_into
from support.brokers import PATIENT_AUTHSTATE, BrokerService, refuse_access
from support.codex_binaries import NEW, OLD, install
from support.codex_children import Child
from support.codex_turns import model_config
from support.homes import fill
from support.ports import private_port
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

PERSON: dict[str, Any] = {"email": "person@example.com", "account_id": "org-person"}
_OF_WINDOW = 10  # rounds
_OF_CODEX = "Account credentials changed during refresh."
"""How 0.169.0 fails a turn when auth.json changes just before it asks. The next turn works."""
_AS_FAR_AS_AN_ISSUER = 0.2
"""Seconds. Within it, all processes of a home have asked."""


class Field:
    """An issuer, an adopted home with a broker, and children.

    Args:
        folder: for the homes.
        running: ends everything.
        binaries: of codex, by release.
    """

    def __init__(self, folder: Path, running: ExitStack, binaries: Mapping[str, Path]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._running = running
        self.issuer = running.enter_context(LoopbackIssuer())
        self.home = fill(folder / "home", self.issuer, config=model_config(self.issuer), **PERSON)
        asyncio.run(adopt(self.home))
        self._port = private_port()
        self.broker = self._start()
        running.callback(lambda: self.broker.stop())
        self.children: list[Child] = []

    def _start(self) -> BrokerService:
        return BrokerService(self.home, self.issuer, listen=f"127.0.0.1:{self._port}", program=PATIENT_AUTHSTATE)

    def restart(self, number: int = signal.SIGKILL) -> None:
        """End the broker with a signal, and start it again on the same port."""
        self.broker.stop(number)
        self.broker = self._start()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a codex use the broker."""
        endpoints = {
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{self.broker.url}/oauth/token",
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE": f"{self.broker.url}/oauth/revoke",
            "AUTHSTATE_BROKER_URL": self.broker.url,
            "AUTHSTATE_REFRESH_TOKEN_URL": self.issuer.refresh_url,
            "AUTHSTATE_REVOKE_TOKEN_URL": self.issuer.revoke_url,
        }
        return {**self.issuer.environment, **endpoints}

    def add_children(self, count: int) -> None:
        """Start children of both releases: on the adopted home, and on homes with a lease of their own.

        The adopted home has children of one release only: 0.169.0 fails a turn when 0.93.0 writes auth.json beside it.
        """
        for number in range(count):
            version = (OLD, NEW)[number % 2]
            home = self.home
            if version == OLD or number % 4 == 1:
                home = self._folder / f"sandbox-{number}"
                asyncio.run(lease_into(home, self.home, self.issuer))
            self.children.append(Child([str(self._binaries[version])], home, self.environment, self._running))

    def wrapped_window(self) -> Child:
        """Start a wrapped app-server on the adopted home."""
        return Child([*AUTHSTATE, "wrap", "--", str(self._binaries[NEW])], self.home, self.environment, self._running)

    def turns(self) -> Counter[str]:
        """Run a turn in every child at once. Returns how they ended."""
        begun = [(child, child.begin_turn()) for child in self.children]
        return Counter(child.finish_turn(before) for child, before in begun)

    def exec(self) -> str:
        """Run `codex exec` on the adopted home. Returns what it prints."""
        command = [str(self._binaries[NEW]), "exec", "--skip-git-repo-check", "hi"]
        environment = clean_environment(self.home, **self.environment)
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, cwd=self.home, env=environment, timeout=90, **streams)
        return str(done.stdout)

    def refuse_access(self) -> None:
        """Let the backend refuse the access token."""
        refuse_access(self.issuer, self.home)


def expiries(field: Field, children: int, rounds: int) -> dict[str, float]:
    """Refuse the access token again and again. Returns figures. Raises AssertionError if a turn fails."""
    field.add_children(children)
    field.issuer.behave("refresh", delay=_AS_FAR_AS_AN_ISSUER)
    window = field.wrapped_window()
    of_codex = 0
    for number in range(1, rounds + 1):
        field.refuse_access()
        outcome = field.turns()
        if _OF_CODEX in outcome:
            of_codex += outcome[_OF_CODEX]
            outcome = field.turns()
        assert outcome == {"completed": children}, f"round {number}: {outcome}"
        assert field.exec() == "You said: hi\n"
        if number % _OF_WINDOW == 1:  # authstate bounds the tokens that one wrapped child is refused within a minute
            assert window.turn() == "completed"
    stats = field.issuer.stats()
    return {
        "children": children,
        "expiries": rounds,
        "turns": children * rounds + rounds + (rounds + _OF_WINDOW - 1) // _OF_WINDOW,
        "refreshes": stats["refreshes_accepted"],
        "refused": stats["refreshes_refused"],
        "turns that codex failed by itself": of_codex,
    }


def kills(field: Field, children: int, times: int, random: Random) -> dict[str, float]:
    """Kill the broker at random moments of a round of turns. Returns figures, after the first lost login at the latest.

    After each restart all children must complete a turn. A refresh token is lost only where the broker died between the
    issuer's decision and its own write. Raises AssertionError otherwise.
    """
    field.add_children(children)
    assert field.turns() == {"completed": children}
    slowest, killed, lost = 0.0, 0, 0
    while killed < times and not lost:
        field.refuse_access()
        begun = [(child, child.begin_turn()) for child in field.children]
        _pass(random.random() * 0.5)
        field.restart()
        killed += 1
        for child, since in begun:
            child.finish_turn(since)  # it may have failed, while there was no broker
        began = monotonic()
        outcome = field.turns()
        if _OF_CODEX in outcome:
            outcome = field.turns()
        slowest = max(slowest, monotonic() - began)
        lost = field.issuer.stats()["refreshes_refused"]
        assert lost or outcome == {"completed": children}, outcome
    stats = field.issuer.stats()
    return {"kills": killed, "refreshes": stats["refreshes_accepted"], "logins lost": min(lost, 1), "slowest": slowest}


def _pass(seconds: float) -> None:
    """Let some time pass: when the broker is killed is the one thing that is drawn by chance here."""
    end = monotonic() + seconds
    while monotonic() < end:
        pass


def many_kills(binaries: Mapping[str, Path], children: int, times: int, seed: int) -> dict[str, float]:
    """Kill brokers so often, with a new login after each that is lost. Returns figures."""
    total: Counter[str] = Counter()
    slowest = 0.0
    random = Random(seed)
    while total["kills"] < times:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            figures = kills(Field(Path(folder), running, binaries), children, times - total["kills"], random)
        slowest = max(slowest, figures.pop("slowest"))
        total.update({name: int(value) for name, value in figures.items()})
    return {**total, "slowest round after a restart, seconds": round(slowest, 2)}


def main() -> None:
    """Run what the command line asks for, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("expiries", "kills"))
    parser.add_argument("--children", type=int, default=32)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    binaries = {version: install(version) for version in (OLD, NEW)}
    began = monotonic()
    if options.what == "kills":
        figures = many_kills(binaries, options.children, options.times, options.seed)
    else:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            figures = expiries(Field(Path(folder), running, binaries), options.children, options.times)
    json.dump({**figures, "seconds": round(monotonic() - began, 1)}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
