"""The protocol with one of its guarantees removed. Each mutant is a patch that the simulation must notice."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from model.machines.database import Answer, Row, SimDatabase, Values
from model.simulation.mutants import Patches, _send_a_doubt_at_once, _unclaimed, patched

from authstate.adapters.postgres.held_row import HeldRow
from authstate.adapters.postgres.hold import Hold
from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.flows.refresh import Refresher


def _anybodys(database: SimDatabase, row: Row | None, values: Values) -> bool:
    return row is not None


def _settle_anyhow(database: SimDatabase, values: Values) -> Answer:
    row = database.state.row
    assert row is not None
    return _settle(database, {**values, "writer": row.writer, "generation": row.generation + 1})


def _taken_by_anybody(database: SimDatabase, row: Row, values: Values) -> bool:
    return True


def _whenever(hold: Hold) -> None:
    """Send, however long ago the row was taken."""


async def _renewed_by_word_only(held: HeldRow) -> None:
    """Do not ask the database."""


_settle = SimDatabase._settle

MUTANTS: Mapping[str, Patches] = {
    "no claim": {(OpenRefreshClaim, "record"): _unclaimed},
    "no hold": {(SimDatabase, "may_take"): _taken_by_anybody},
    "no compare-and-swap": {(SimDatabase, "is_ours"): _anybodys},
    "no deadline": {(Hold, "ensure_may_send"): _whenever},
    "settle whatever the generation": {(SimDatabase, "_settle"): _settle_anyhow},
    "a doubt is sent at once": {(Refresher, "_sendable_claim"): _send_a_doubt_at_once},
    "a token is dead by what was read long ago": {(HeldRow, "renew"): _renewed_by_word_only},
}


def mutated(name: str) -> AbstractContextManager[None]:
    """Run with one guarantee removed."""
    return patched(MUTANTS[name])
