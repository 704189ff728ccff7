"""The SQL of `authstate postgres`. Each statement is a whole transaction, and may be repeated.

What changes the encryption of a login does not change the login: it writes `key_id` and `login` only if the row still
has the `version` and the key that were read. It never touches `generation`, `writer` and `held_until`, so a refresh
that is under way meanwhile neither waits for it nor fails.
"""

from typing import Final

KEYS_IN_USE: Final = """
    WITH RECURSIVE used AS (
        (SELECT key_id FROM authstate.accounts WHERE login IS NOT NULL ORDER BY key_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT a.key_id FROM authstate.accounts AS a
            WHERE a.login IS NOT NULL AND a.key_id > used.key_id ORDER BY a.key_id LIMIT 1
        ) FROM used WHERE used.key_id IS NOT NULL
    )
    SELECT coalesce(array_agg(key_id) FILTER (WHERE key_id IS NOT NULL), '{}') AS keys FROM used
"""
"""The ids of all keys that encrypt a login. One look at the index for each key, however many logins there are."""

LOGINS_UNDER_KEY: Final = """
    SELECT coalesce(array_agg(account ORDER BY account), '{}') AS accounts,
        coalesce(array_agg(version ORDER BY account), '{}') AS versions,
        coalesce(array_agg(login ORDER BY account), '{}') AS logins
    FROM (
        SELECT account, version, login FROM authstate.accounts
        WHERE key_id = %(key_id)s AND login IS NOT NULL AND account > %(after)s ORDER BY account LIMIT %(count)s
    ) AS batch
"""

REPLACE_ENCRYPTED: Final = """
    WITH written AS (
        UPDATE authstate.accounts AS a SET key_id = %(new_key_id)s, login = new.login
        FROM unnest(%(accounts)s::text[], %(versions)s::bigint[], %(logins)s::bytea[]) AS new (account, version, login)
        WHERE a.account = new.account AND a.version = new.version AND a.key_id = %(key_id)s AND a.login IS NOT NULL
        RETURNING a.account
    )
    SELECT count(*) AS written FROM written
"""

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

COUNT_CLAIMS: Final = """
    SELECT count(*) FILTER (WHERE is_under_way) AS under_way, count(*) FILTER (WHERE NOT is_under_way) AS in_doubt
    FROM (
        SELECT c.state = 'claimed' AND coalesce(a.held_until > clock_timestamp(), false) AS is_under_way
        FROM authstate.refresh_claims AS c JOIN authstate.accounts AS a ON a.account = c.account
        WHERE c.state IN ('claimed', 'doubtful')
    ) AS found
"""
"""The claims that are not settled. One of a row that somebody holds is a refresh that is under way."""
