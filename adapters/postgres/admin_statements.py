"""The SQL of `authstate postgres`. Each statement is a whole transaction, and may be repeated.

What changes the encryption of a login does not change the login: it writes `key_id` and `login` only if the row still
has the `version` and the key that were read. It never touches `generation`, `writer` and `held_until`, so a refresh
that is under way meanwhile neither waits for it nor fails.
"""

from typing import Final

_OTHER_KEYS: Final = """
        SELECT key_id FROM (
            WITH RECURSIVE used AS (
                (SELECT min(key_id) AS key_id FROM {rows})
                UNION ALL
                SELECT (SELECT min(key_id) FROM {rows} AND key_id > used.key_id) FROM used WHERE used.key_id IS NOT NULL
            )
            SELECT key_id FROM used WHERE key_id IS NOT NULL AND key_id <> %(current)s
        ) AS of_table
"""
_LOGINS: Final = "authstate.accounts WHERE login IS NOT NULL"
_LEASES: Final = "authstate.leases WHERE true"

OTHER_KEYS: Final = f"""
    {_OTHER_KEYS.format(rows=_LOGINS)}
    UNION
    {_OTHER_KEYS.format(rows=_LEASES)}
    ORDER BY key_id
"""
"""The ids of all keys but the current one that encrypt a login or a lease. It looks at an index once for each key,
however many rows there are.
"""

LOGINS_UNDER_KEY: Final = """
    SELECT account AS name, account, version, login AS sealed FROM authstate.accounts
    WHERE key_id = %(key_id)s AND login IS NOT NULL AND account > %(after)s ORDER BY account LIMIT %(count)s
"""

REPLACE_LOGINS: Final = """
    WITH written AS (
        UPDATE authstate.accounts AS a SET key_id = %(new_key_id)s, login = new.sealed
        FROM unnest(%(names)s::text[], %(versions)s::bigint[], %(sealed)s::bytea[]) AS new (name, version, sealed)
        WHERE a.account = new.name AND a.version = new.version AND a.key_id = %(key_id)s AND a.login IS NOT NULL
        RETURNING a.account
    )
    SELECT count(*) AS written FROM written
"""

LEASES_UNDER_KEY: Final = """
    SELECT digest AS name, account, 0 AS version, details AS sealed FROM authstate.leases
    WHERE key_id = %(key_id)s AND digest > %(after)s ORDER BY digest LIMIT %(count)s
"""

REPLACE_LEASES: Final = """
    WITH written AS (
        UPDATE authstate.leases AS l SET key_id = %(new_key_id)s, details = new.sealed
        FROM unnest(%(names)s::text[], %(versions)s::bigint[], %(sealed)s::bytea[]) AS new (name, version, sealed)
        WHERE l.digest = new.name AND l.key_id = %(key_id)s
        RETURNING l.digest
    )
    SELECT count(*) AS written FROM written
"""
"""The details of a lease never change, so they need no version."""

LEASES_OF_ACCOUNT: Final = "SELECT digest, key_id, details FROM authstate.leases WHERE account = %(account)s"

REMOVE_LEASES: Final = """
    WITH removed AS (DELETE FROM authstate.leases WHERE digest = ANY(%(digests)s) RETURNING id)
    SELECT id, pg_notify('authstate_lease', id) FROM removed
"""
"""Remove leases, and tell the brokers, as the end of a lease does."""

VERSION_OF_TABLES: Final = "SELECT coalesce(max(version), 0) AS version FROM authstate.migrations"

COUNT_ACCOUNTS: Final = """
    SELECT count(*) AS accounts, count(*) FILTER (WHERE held_until > clock_timestamp()) AS held
    FROM authstate.accounts
"""

COUNT_LOGINS: Final = """
    SELECT coalesce(array_agg(key_id ORDER BY key_id), '{}') AS keys,
        coalesce(array_agg(logins ORDER BY key_id), '{}') AS logins
    FROM (SELECT key_id, count(*) AS logins FROM authstate.accounts WHERE login IS NOT NULL GROUP BY key_id) AS counted
"""

COUNT_LEASES: Final = """
    SELECT coalesce(array_agg(key_id ORDER BY key_id), '{}') AS keys,
        coalesce(array_agg(leases ORDER BY key_id), '{}') AS leases
    FROM (SELECT key_id, count(*) AS leases FROM authstate.leases GROUP BY key_id) AS counted
"""

COUNT_CLAIMS: Final = """
    SELECT count(*) FILTER (WHERE is_under_way) AS under_way, count(*) FILTER (WHERE NOT is_under_way) AS in_doubt
    FROM (
        SELECT c.state = 'claimed' AND coalesce(a.held_until > clock_timestamp(), false) AS is_under_way
        FROM authstate.refresh_claims AS c JOIN authstate.accounts AS a ON a.account = c.account
        WHERE c.state IN ('claimed', 'doubtful')
    ) AS found
"""
"""The claims that are not settled. One of a row that somebody holds is a refresh that is under way."""
