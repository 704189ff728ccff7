"""What postgres_load.py prints: figures, some of them with a target. And what a server has done, in numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support.postgres import PostgresServer


class Figure(NamedTuple):
    """One measured value.

    Args:
        name: what was measured.
        value: in the unit.
        unit: of the value.
        at_most, at_least: the target. None if there is none.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the target is reached. True if there is none."""
        too_much = self.at_most is not None and self.value > self.at_most
        return not too_much and (self.at_least is None or self.value >= self.at_least)

    def row(self) -> tuple[str, str, str, str]:
        """The cells of its row."""
        target = ""
        if self.at_most is not None:
            target = f"at most {_shown(self.at_most)}"
        elif self.at_least is not None:
            target = f"at least {_shown(self.at_least)}"
        verdict = "" if not target else "met" if self.is_met else "**missed**"
        return self.name, f"{_shown(self.value)} {self.unit}".rstrip(), target, verdict


def table(figures: Sequence[Figure]) -> str:
    """All figures as a table in Markdown."""
    rows = [("figure", "measured", "target", ""), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


class ServerWork(NamedTuple):
    """What a server has done since it was started."""

    cpu_ms: float
    wal_bytes: float
    page_images: float
    """Pages that were written to the log as a whole: after a checkpoint, each page once."""
    updates: float
    """Of rows of accounts and claims."""
    hot_updates: float
    """Those of them that changed no index."""

    def per(self, earlier: "ServerWork", count: int) -> "ServerWork":
        """The difference to an earlier time, for each of so many refreshes."""
        return ServerWork(*((now - then) / count for now, then in zip(self, earlier, strict=True)))


def work_of(server: PostgresServer, database: str) -> ServerWork:
    """Read what a server has done. Its processes report it when they end."""
    wal = server.execute("SELECT wal_bytes, wal_fpi FROM pg_stat_wal")[0]
    rows = server.execute("SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables", database=database)[0]
    return ServerWork(_cpu_ms(server), *(float(value) for value in (*wal, *rows)))


def _cpu_ms(server: PostgresServer) -> float:
    """The processor time of all processes of a server, also of those that have ended. 0 where there is no /proc."""
    postmaster = (server.folder / "data" / "postmaster.pid").read_text().splitlines()[0]
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if stat.parent.name == postmaster:
            ticks += sum(map(int, fields[11:15]))  # with children that have ended
        elif fields[1] == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks * 10.0
