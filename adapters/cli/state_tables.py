"""Every state table of authstate, and its words: those of the engine, then those of the adapters."""

from collections.abc import Mapping

from authstate.adapters.child.token_states import CHILD_TOKENS_TABLE, CHILD_TOKENS_WORDS
from authstate.adapters.oauth.browser_progress import BROWSER_LOGIN_TABLE, BROWSER_LOGIN_WORDS
from authstate.engine.machines.auth_state import AUTH_TABLE, AUTH_WORDS
from authstate.engine.machines.diagrams import ENGINE_TABLES
from authstate.engine.machines.engine_life import ENGINE_LIFE_TABLE, ENGINE_LIFE_WORDS
from authstate.engine.machines.lease import LEASE_TABLE, LEASE_WORDS
from authstate.engine.machines.login_attempt import LOGIN_TABLE, LOGIN_WORDS
from authstate.engine.machines.recovery import RECOVERY_TABLE, RECOVERY_WORDS
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE, REFRESH_CLAIM_WORDS
from authstate.engine.machines.table import Table
from authstate.engine.machines.words import Words

TABLES: tuple[Table, ...] = (*ENGINE_TABLES, BROWSER_LOGIN_TABLE, CHILD_TOKENS_TABLE)
"""Add the table of a new machine here; a test finds one that is missing. docs/states.md needs a section for it, too."""

TABLE_WORDS: Mapping[str, Words] = {
    AUTH_TABLE.name: AUTH_WORDS,
    RECOVERY_TABLE.name: RECOVERY_WORDS,
    LOGIN_TABLE.name: LOGIN_WORDS,
    REFRESH_CLAIM_TABLE.name: REFRESH_CLAIM_WORDS,
    LEASE_TABLE.name: LEASE_WORDS,
    ENGINE_LIFE_TABLE.name: ENGINE_LIFE_WORDS,
    BROWSER_LOGIN_TABLE.name: BROWSER_LOGIN_WORDS,
    CHILD_TOKENS_TABLE.name: CHILD_TOKENS_WORDS,
}
"""The words of each table, by the name of the table."""
