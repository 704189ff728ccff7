"""Real codex binaries obey nothing about accounts that `wrap` did not let through: a short run of fuzz_wrap.py."""

from pathlib import Path

from interop.fuzz_wrap import run

from authstate.testing import LoopbackIssuer


def test_codex_does_nothing_that_did_not_pass(codex: Path, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    counts = run(codex, 2_000, 7, tmp_path, issuer)
    assert counts["obeyed"] == 0
    assert counts["passed"] > 100, "ordinary lines pass"
    assert counts["would_obey"] == 1, "without the filter it obeys"
