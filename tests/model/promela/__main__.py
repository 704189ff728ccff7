"""Run it in `tests/`. Check everything: `python -m model.promela every`. Remove a safeguard and show what happens then:
`python -m model.promela NO_CLAIM`. Without an argument, it lists the safeguards.

It needs Spin and gcc: `apt-get install spin gcc`.
"""

import sys
import tempfile
from pathlib import Path

from model.promela.checks import CHECKS, FILES, OF_SIMULATION, ONLY_HERE, Check, Safeguard
from model.promela.spin import SpinFailed, Verdict, Verifier, built, safeguards


class _Verifiers:
    """Builds a verifier when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[bool, Verifier] = {}

    def verify(self, check: Check, removed: int = 0) -> Verdict:
        """See `Verifier.verify`. `removed` is the number of a safeguard."""
        lasts = bool(check.claim)
        if lasts not in self._built:
            folder = self._folder / str(lasts)
            folder.mkdir()
            self._built[lasts] = built(folder, lasts=lasts)
        return self._built[lasts].verify({**check.options, "REMOVED": removed}, check.claim)


def main(arguments: list[str]) -> int:
    """Print what Spin found. The exit status is 1 if a promise is broken, or if a missing safeguard is not found."""
    known = {safeguard.name: (what, safeguard) for what, safeguard in {**OF_SIMULATION, **ONLY_HERE}.items()}
    try:
        with tempfile.TemporaryDirectory() as folder:
            verifiers = _Verifiers(Path(folder))
            if arguments == ["every"]:
                return _check_everything(verifiers)
            if len(arguments) == 1 and arguments[0] in known:
                return _show(verifiers, *known[arguments[0]])
    except (SpinFailed, FileNotFoundError) as fault:
        print(f"Spin could not do it: {fault}", file=sys.stderr)
        return 2
    print(__doc__)
    for name, (what, _) in known.items():
        print(f"    {name:24} {what}")
    return 2


def _check_everything(verifiers: _Verifiers) -> int:
    failed = 0
    for name, check in CHECKS.items():
        verdict = verifiers.verify(check)
        print(f"{'BROKEN' if verdict.broken else 'holds':7} {verdict.states:>9} states  {name}", flush=True)
        for line in verdict.counterexample:
            print(f"    {line}")
        failed += bool(verdict.broken)
    for what, safeguard in {**OF_SIMULATION, **ONLY_HERE}.items():
        verdict = verifiers.verify(safeguard.check, safeguards(FILES)[safeguard.name])
        found = safeguard.breaks in verdict.broken
        print(f"{'found' if found else 'MISSED':7} {verdict.states:>9} states  {what}", flush=True)
        failed += not found
    return int(failed > 0)


def _show(verifiers: _Verifiers, what: str, safeguard: Safeguard) -> int:
    verdict = verifiers.verify(safeguard.check, safeguards(FILES)[safeguard.name])
    print(f"{what}: {verdict.broken or 'Spin found nothing'}")
    print(*(f"    {line}" for line in verdict.counterexample), sep="\n")
    return int(not verdict.broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
