"""Every state table of authstate, for the diagrams: those of the engine, then those of the adapters."""

from authstate.adapters.child.token_states import CHILD_TOKENS_TABLE
from authstate.adapters.oauth.browser_progress import BROWSER_LOGIN_TABLE
from authstate.engine.machines.diagrams import ENGINE_TABLES
from authstate.engine.machines.table import Table

TABLES: tuple[Table, ...] = (*ENGINE_TABLES, BROWSER_LOGIN_TABLE, CHILD_TOKENS_TABLE)
"""Add the table of a new machine here; a test finds one that is missing. docs/states.md needs a section for it, too."""
