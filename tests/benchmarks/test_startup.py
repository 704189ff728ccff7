"""From the start of the process to the first `account/read`: authstate needs at most the time of codex 0.169.0.

Measured with a ChatGPT login, which is what both programs are for. With an API key codex does less; that figure is
printed and kept beside the others.
"""

from collections.abc import Callable, Mapping

from benchmarks.side_by_side import Program, assert_not_slower, keep, lower_quartile, starts


def test_startup_is_at_most_that_of_codex_0_169_0(make_programs: Callable[[str], Mapping[str, Program]]) -> None:
    keep("startup to the first account/read, API key", starts(make_programs("apikey")))
    programs = make_programs("chatgpt")
    name = "startup to the first account/read, ChatGPT"
    assert_not_slower(lambda: starts(programs), "authstate", "0.169.0", name, lower_quartile)
