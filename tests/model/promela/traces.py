"""Whether the model accepts traces: one verifier follows any number of them."""

from collections.abc import Sequence
from pathlib import Path

from model.promela.checks import FILES
from model.promela.recorder import Step
from model.promela.spin import SpinFailed, Verifier


class TraceChecker:
    """The model as a judge of traces.

    Args:
        folder: an empty one, for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verifier = Verifier(folder, FILES, ("TRACE",), ("-DSAFETY",))

    def followed(self, traces: Sequence[Sequence[Step]]) -> list[int]:
        """How many steps of each trace the model can follow. It accepts a trace if it follows all of it."""
        path = self._folder / "traces.txt"
        lines = [str(len(traces))]
        for trace in traces:
            lines += [str(len(trace)), *(" ".join(map(str, step)) for step in trace)]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        said = self._verifier.run({"TRACES": str(path)})
        found = [line.split() for line in said.splitlines() if line.startswith("trace ")]
        if [int(words[5]) for words in found] != [len(trace) for trace in traces]:
            raise SpinFailed(said[-4000:])
        return [int(words[3]) for words in found]
