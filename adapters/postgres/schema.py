"""The tables of a database, as numbered migrations. One that was released never changes: another one follows it.

    authstate.accounts         one row for each account: its login, encrypted, and who may change it until when
    authstate.leases           who may get access tokens from a broker: digests of handles, no handles
    authstate.refresh_claims   what is known of refresh tokens that were sent: digests, no tokens
    authstate.encryption_keys  which keys encrypted something here, and a value by which a wrong key is noticed
    authstate.migrations       which migrations were applied

Each migration runs in one transaction, under an advisory lock, so any number of machines may start at once.
"""

from typing import Final

import msgspec

SCHEMA: Final = "authstate"
LOCK: Final = 0x61757468_73746174
"""The key of the advisory lock that a migration takes: "authstat"."""


class Migration(msgspec.Struct, frozen=True):
    """One step from a version of the schema to the next."""

    version: int
    title: str
    statements: tuple[str, ...]


MIGRATIONS: Final = (
    Migration(
        1,
        "accounts, refresh claims and key checks",
        (
            """
            CREATE TABLE authstate.accounts (
                account text PRIMARY KEY CHECK (length(account) BETWEEN 1 AND 200),
                generation bigint NOT NULL,
                writer uuid NOT NULL,
                holder text NOT NULL,
                held_until timestamptz,
                version bigint NOT NULL DEFAULT 0,
                key_id text,
                login bytea,
                fingerprint text,
                changed_at timestamptz,
                changed_by text NOT NULL DEFAULT ''
            ) WITH (fillfactor = 70)
            """,
            "CREATE INDEX accounts_fingerprint ON authstate.accounts (fingerprint) WHERE fingerprint IS NOT NULL",
            "CREATE INDEX accounts_changed ON authstate.accounts (changed_at)",
            "CREATE INDEX accounts_key ON authstate.accounts (key_id, account) WHERE login IS NOT NULL",
            """
            CREATE TABLE authstate.refresh_claims (
                account text NOT NULL,
                fingerprint text NOT NULL,
                number bigint NOT NULL,
                state text NOT NULL,
                at double precision NOT NULL,
                holder text NOT NULL,
                sends integer NOT NULL,
                reason text,
                detail text NOT NULL,
                owner text NOT NULL,
                successor text NOT NULL,
                PRIMARY KEY (account, fingerprint)
            ) WITH (fillfactor = 80)
            """,
            # Finds the oldest claims of an account without reading its rows. docs/sizing.md has measured what it costs.
            "CREATE INDEX refresh_claims_number ON authstate.refresh_claims (account, number)",
            "CREATE INDEX refresh_claims_fingerprint ON authstate.refresh_claims (fingerprint)",
            """
            CREATE INDEX refresh_claims_open ON authstate.refresh_claims (account)
            WHERE state IN ('claimed', 'doubtful')
            """,
            "CREATE TABLE authstate.encryption_keys (key_id text PRIMARY KEY, checked bytea NOT NULL)",
        ),
    ),
    Migration(
        2,
        "leases",
        (
            """
            CREATE TABLE authstate.leases (
                digest text PRIMARY KEY CHECK (length(digest) = 64),
                id text NOT NULL UNIQUE,
                account text NOT NULL,
                key_id text NOT NULL,
                details bytea NOT NULL,
                created_at timestamptz NOT NULL,
                expires_at timestamptz,
                over_at timestamptz,
                state text NOT NULL
            )
            """,
            "CREATE INDEX leases_account ON authstate.leases (account, created_at)",
            "CREATE INDEX leases_over ON authstate.leases (over_at) WHERE over_at IS NOT NULL",
            "CREATE INDEX leases_key ON authstate.leases (key_id, digest)",
        ),
    ),
)
VERSION: Final = MIGRATIONS[-1].version
"""The version of the schema that this release reads and writes."""
