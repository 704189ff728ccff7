"""Runs Spin: a model becomes a verifier, a program in C, which looks at every state that the model can reach."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from model.promela.checks import FILES
from support.paths import REPO, TESTS

FOLDER = TESTS / "model" / "promela"
_MOST_STEPS = 300_000
_SECONDS = 240


class SpinFailed(Exception):
    """Spin, the compiler or a verifier did not do its work. The text is what it said."""


class Verdict(NamedTuple):
    """What a verifier found."""

    broken: str
    """The promise that is broken, or empty."""
    states: int
    """How many states it looked at."""
    counterexample: tuple[str, ...] = ()
    """The steps that lead to it, for a person."""


class Verifier:
    """A model as a program.

    Args:
        folder: an empty one. The program is built there.
        model: the name of the model.
        defines: for the model.
        flags: for the C compiler.
    """

    def __init__(self, folder: Path, model: str, defines: Sequence[str] = (), flags: Sequence[str] = ()) -> None:
        self._folder = folder
        for path in (REPO / "diagrams" / "tables.pml", *FOLDER.glob("*.pml"), *FOLDER.glob("*.h")):
            shutil.copy(path, folder)
        self._run(["spin", *(f"-D{name}" for name in defines), "-a", f"{model}.pml"])
        self._run(["gcc", "-w", "-O0", "-DVECTORSZ=8192", *flags, "-o", "pan", "pan.c"])

    def verify(self, options: Mapping[str, int], claim: str = "") -> Verdict:
        """Look at every state.

        Args:
            options: what may go wrong, and how often; `REMOVED` is the number of the safeguard that is removed.
            claim: what must hold in the long run, by its name in the model, which was made with `LIVENESS`.

        Raises:
            SpinFailed: not every state was looked at.
        """
        environment = {name: str(number) for name, number in options.items()}
        arguments = ("-a", "-f", "-N", claim) if claim else ()
        said = self._run(["./pan", *arguments, f"-m{_MOST_STEPS}", "-w20"], environment)
        errors = re.search(r"errors: (\d+)\n\s*(\d+) states, stored", said)
        broken = re.search(r"^pan:1: (.*?)(?: \(at depth \d+\))?$", said, re.M)
        if errors is None or (errors[1] == "0") is (broken is not None) or "too small" in said:
            raise SpinFailed(said)
        if broken is None:
            return Verdict("", int(errors[2]))
        replayed = self._run(["./pan", "-r", *(("-N", claim) if claim else ())], environment)
        return Verdict(broken[1], int(errors[2]), tuple(in_words(replayed)))

    def run(self, environment: Mapping[str, str]) -> str:
        """Look at every state, whatever its end. Returns what the verifier printed."""
        return self._run(["./pan", "-E", f"-m{_MOST_STEPS}", "-w20"], environment)

    def _run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
        said = done.stdout + done.stderr
        if (done.returncode and command[0] != "./pan") or "aborting" in said:
            raise SpinFailed(f"{' '.join(command)}: {said[-4000:]}")
        return said


def built(folder: Path, *, lasts: bool) -> Verifier:
    """The verifier of what holds in the long run, or of what holds at each step, in an empty folder."""
    if lasts:
        return Verifier(folder, FILES, ("LIVENESS",), ("-DNFAIR=3", "-DNOREDUCE"))
    return Verifier(folder, FILES, (), ("-DSAFETY",))


def codes() -> Mapping[str, int]:
    """The names and numbers of trace.pml."""
    found = re.findall(r"^#define (\w+) +(\d+)", (FOLDER / "trace.pml").read_text(encoding="utf-8"), re.M)
    return {name: int(number) for name, number in found}


def safeguards(model: str) -> Mapping[str, int]:
    """The safeguards that a model can do without: their names and numbers."""
    text = (FOLDER / f"{model}.pml").read_text(encoding="utf-8")
    block = text.split("/* The safeguards.")[1].split("byte removed;")[0]
    return {name: int(number) for name, number in re.findall(r"^#define (\w+) (\d+)", block, re.M)}


_CLAIMS = ("free", "claimed", "in doubt", "spent", "dead")
_HEARD = ("new tokens", "a new refresh token only", "that it is refused", "nothing", "that it was not processed")
_TRIGGERS = ("complete_chatgpt_login", "use_external_tokens", "log_out", "tokens_refreshed", "refresh_rejected")


def in_words(replayed: str) -> list[str]:
    """The steps of a replay as sentences."""
    kinds = {number: name for name, number in codes().items() if name in _SENTENCES}
    lines = []
    for line in replayed.splitlines():
        if found := re.match(r"\s*step (\d+) (\d+) (\d+) (\d+)$", line):
            kind, process, a, b = map(int, found.groups())
            lines.append(_SENTENCES[kinds[kind]].format(p=f"p{process}", a=a, b=b, **_details(kinds[kind], b)))
        elif "START OF CYCLE" in line:
            lines.append("from here on, again and again:")
    return lines


def _details(kind: str, b: int) -> Mapping[str, str]:
    words = {"CLAIM": _CLAIMS, "HEAR": _HEARD, "FIRE": _TRIGGERS, "ARRIVE": ("refused", "spent")}
    return {"what": words[kind][b] if kind in words else ""}


_SENTENCES: Mapping[str, str] = {
    "START": "{p} starts",
    "DIE": "{p} dies",
    "POWER": "the power fails; the store holds token {a}",
    "LOCK": "{p} takes the lock",
    "UNLOCK": "{p} gives the lock back",
    "CLAIM": "{p} writes the claim: token {a} is {what}",
    "SEND": "{p} sends token {a}",
    "ARRIVE": "token {a} of {p} arrives at the issuer, and is {what}",
    "HEAR": "{p} hears {what} of token {a}",
    "FILLED": "{p} syncs a new file with token {a}",
    "STORE": "{p} stores token {a}",
    "SYNC": "{p} syncs the folder",
    "FIRE": "{p}: {what}, token {a}",
}
