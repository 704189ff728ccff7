"""The plan for ten million accounts, calculated from the figures in docs/sizing.md.

`python -m benchmarks.postgres_plan`, in `tests/`, writes it into that page again, after its table of figures was
replaced.
"""

import re
from collections.abc import Mapping

from support.paths import REPO

from authstate.engine.machines.refresh_claim import MAX_CLAIMS

PAGE = REPO / "docs" / "sizing.md"
ACCOUNTS = 10_000_000
PERIODS = {"T = 10 days": 864_000, "T = 1 hour": 3_600}
PEAK = 3
OCCUPIED = 10.0
"""Milliseconds for which a refresh occupies a connection: its statements, with two commits of 3 ms."""
LOOKED_BACK = 45
"""Seconds of changes that a process finds at each look, which it repeats after 30 seconds (statements.RECENT)."""
_BETWEEN = re.compile(r"(?<=<!-- plan: begin -->\n).*?(?=<!-- plan: end -->)", re.S)


def figures_of(page: str) -> dict[str, float]:
    """The values of the table of figures, by name."""
    rows = re.findall(r"^\| (.+?) +\| ([\d.,]+)[^|]*\|[^|]*\|[^|]*\|$", page, re.M)
    return {name: float(value.replace(",", "")) for name, value in rows}


def plan(figures: Mapping[str, float]) -> str:
    """The table of the plan in Markdown."""
    process = figures["processor time of a refresh in the process"]
    server = figures["processor time of a refresh in PostgreSQL"]
    cold = figures["WAL of a refresh, right after a checkpoint"]
    warm = figures["WAL of a refresh, pages known since the checkpoint"]
    account = figures["an account: its row, its login and its indexes"] / 1e3
    told = figures["a separate notification"]
    heard = figures["hearing a notification, in each process"]
    woken = figures["hearing a notification, in PostgreSQL for each process"]
    found = figures["finding a change by a look, in each process"]
    whole = figures[f"an account with {MAX_CLAIMS} claims, the most that are kept"]

    def row(what: str, formula: str, cells: list[str]) -> str:
        return f"| {what} | {formula} | {' | '.join(cells)} |"

    def rate(unit: float) -> list[str]:
        rates = [ACCOUNTS / seconds * unit for seconds in PERIODS.values()]
        return [f"{_short(one)}; peak {_short(PEAK * one)}" for one in rates]

    def log(kilobytes: float) -> list[str]:
        rates = [ACCOUNTS / seconds * kilobytes / 1e3 for seconds in PERIODS.values()]
        return [f"{_short(one)} MB/s, {_short(one * 86.4)} GB a day" for one in rates]

    disk = [f"{ACCOUNTS * account / 1e6:,.0f} GB"] * 2
    full = [f"{ACCOUNTS * whole / 1e6:,.0f} GB, after {_days(seconds * MAX_CLAIMS)}" for seconds in PERIODS.values()]
    return "\n".join(
        [
            row("what", "formula", list(PERIODS)),
            "|---|---|---|---|",
            row("refreshes a second, r", "N / T", rate(1)),
            row("cores of brokers", f"r * {process:g} ms", rate(process / 1e3)),
            row("cores of PostgreSQL", f"r * {server:g} ms", rate(server / 1e3)),
            row("rows of accounts", "N", ["10 million"] * 2),
            row("rows of claims", f"N * {MAX_CLAIMS}", [f"{ACCOUNTS * MAX_CLAIMS / 1e6:,.0f} million"] * 2),
            row("disk at the start", f"N * {account:.3g} kB", disk),
            row("disk with all claims", f"N * {whole:g} kB, after {MAX_CLAIMS} * T", full),
            row("WAL, at most", f"r * {cold:g} kB", log(cold)),
            row("WAL, at least", f"r * {warm:g} kB", log(warm)),
            row("connections in use", f"r * {OCCUPIED:g} ms", rate(OCCUPIED / 1e3)),
            row("servers, for notifications", f"r * {told:g} ms", rate(told / 1e3)),
            row("cores of each broker, to hear them", f"r * {heard:g} us", rate(heard / 1e6)),
            row("cores of PostgreSQL, for each broker that does", f"r * {woken:g} us", rate(woken / 1e6)),
            row("changes that a look finds", f"r * {LOOKED_BACK} s", rate(LOOKED_BACK)),
            row("milliseconds of each broker for a look", f"the same * {found:g} us", rate(LOOKED_BACK * found / 1e3)),
            "",
        ]
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.3g} days"


def main() -> None:
    """Write the plan into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BETWEEN.sub(lambda _: plan(figures_of(page)), page), encoding="utf-8")


if __name__ == "__main__":
    main()
