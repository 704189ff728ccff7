"""Sequential `account/read`: authstate's median is at most that of codex 0.93.0."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from benchmarks.side_by_side import Program, Running, assert_not_slower

ROUNDS, BATCH = 80, 25


def test_sequential_account_read_is_at_most_that_of_codex_0_93_0(
    make_programs: Callable[[str], Mapping[str, Program]],
) -> None:
    with ExitStack() as stack:
        programs = make_programs("chatgpt")
        running = {name: stack.enter_context(Running(program)) for name, program in programs.items()}

        def measure() -> dict[str, list[float]]:
            times: dict[str, list[float]] = {name: [] for name in running}
            for _ in range(ROUNDS):
                for name, program in running.items():
                    times[name] += [program.read_account() for _ in range(BATCH)]
            return times

        for program in running.values():  # warm up
            for _ in range(BATCH):
                program.read_account()
        assert_not_slower(measure, "authstate", "0.93.0", "sequential account/read")
