"""Run it in `tests/`. Check everything: `python -m model.promela every`. Remove a safeguard and show what happens then:
`python -m model.promela NO_CLAIM`. Without an argument, it lists the safeguards.

It needs Spin and gcc: `apt-get install spin gcc`.
"""

import sys
import tempfile
from pathlib import Path

from model.promela.checks import CHECKS, FILES, OF_SIMULATION, ONLY_HERE, Check, Safeguard
from model.promela.spin import SpinFailed, Verdict, Verifier, safeguards


def main(arguments: list[str]) -> int:
    """Print what Spin found. The exit status is 1 if a promise is broken, or if a missing safeguard is not found."""
    known = {safeguard.name: (what, safeguard) for what, safeguard in {**OF_SIMULATION, **ONLY_HERE}.items()}
    try:
        if arguments == ["every"]:
            return _check_everything()
        if len(arguments) == 1 and arguments[0] in known:
            return _show(*known[arguments[0]])
    except (SpinFailed, FileNotFoundError) as fault:
        print(f"Spin could not do it: {fault}", file=sys.stderr)
        return 2
    print(__doc__)
    for name, (what, _) in known.items():
        print(f"    {name:24} {what}")
    return 2


def _check_everything() -> int:
    failed = 0
    for name, check in CHECKS.items():
        verdict = _verify(check)
        print(f"{'BROKEN' if verdict.broken else 'holds':7} {verdict.states:>9} states  {name}", flush=True)
        print(*(f"    {line}" for line in verdict.counterexample), sep="\n", end="\n" if verdict.broken else "")
        failed += bool(verdict.broken)
    for what, safeguard in {**OF_SIMULATION, **ONLY_HERE}.items():
        verdict = _verify(safeguard.check, safeguards(FILES)[safeguard.name])
        found = safeguard.breaks in verdict.broken
        print(f"{'found' if found else 'MISSED':7} {verdict.states:>9} states  {what}", flush=True)
        failed += not found
    return int(failed > 0)


def _show(what: str, safeguard: Safeguard) -> int:
    verdict = _verify(safeguard.check, safeguards(FILES)[safeguard.name])
    print(f"{what}: {verdict.broken or 'Spin found nothing'}")
    print(*(f"    {line}" for line in verdict.counterexample), sep="\n")
    return int(not verdict.broken)


_built: dict[bool, Verifier] = {}


def _verify(check: Check, removed: int = 0) -> Verdict:
    lasts = bool(check.claim)
    if lasts not in _built:
        _built[lasts] = built(Path(tempfile.mkdtemp()), lasts=lasts)
    return _built[lasts].verify({**check.options, "REMOVED": removed}, check.claim)


def built(folder: Path, *, lasts: bool) -> Verifier:
    """A verifier of what holds in the long run, or of what holds at each step."""
    if lasts:
        return Verifier(folder, FILES, ("LIVENESS",), ("-DNFAIR=3", "-DNOREDUCE"))
    return Verifier(folder, FILES, (), ("-DSAFETY",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
