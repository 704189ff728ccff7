"""Runs each scenario once on authstate and on each codex, and keeps the result for all tests."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from interop.traces import Played, Scene, play
from support.codex_binaries import VERSIONS
from support.homes import fill
from support.wire_client import AUTHSTATE

from authstate.adapters.conformance.differences import listed
from authstate.testing import LoopbackIssuer

OURS = "authstate"


class ScenarioRuns:
    """`of(scene)` is what each program made of it, by the program's name: OURS, or the version of codex.

    Args:
        binaries: codex by version.
        folder: for the homes.
    """

    def __init__(self, binaries: Mapping[str, Path], folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._known: dict[str, dict[str, Played]] = {}

    def of(self, scene: Scene) -> dict[str, Played]:
        """Run the scenario, unless it was run before. Both versions of codex run at the same time."""
        if scene.name not in self._known:
            ours = self._play(scene, OURS, None)
            told = {step: len(outcome) - 1 for step, outcome in ours.outcomes.items()}
            with ThreadPoolExecutor(len(VERSIONS)) as pool:
                theirs = {
                    version: pool.submit(self._play, scene, version, told | _listed_counts(scene, version))
                    for version in VERSIONS
                }
            played = {version: future.result() for version, future in theirs.items()}
            self._known[scene.name] = {OURS: ours, **played}
        return self._known[scene.name]

    def _play(self, scene: Scene, program: str, told: Mapping[str, int] | None) -> Played:
        command = AUTHSTATE if program == OURS else [str(self._binaries[program])]
        name = f"{scene.name}-{program}".replace(" ", "-").replace(",", "")
        with LoopbackIssuer() as issuer:
            return play(scene, command, fill(self._folder / name, issuer, **scene.home), issuer, told)


def _listed_counts(scene: Scene, version: str) -> dict[str, int]:
    """How much codex tells after the steps where it is known to differ."""
    found = ((step.name, listed(version, scene.name, step.name)) for step in scene.steps)
    return {step: len(difference.codex) - 1 for step, difference in found if difference}
