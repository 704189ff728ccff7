"""The SQL of leases, and of whose a refresh token is. See statements.py: each statement may be repeated.

Times are those of the database. A lease is over when the database says so, whatever the clock of a broker shows.
"""

from typing import Final

_SHOWN: Final = """
    digest, id, account, key_id, details, state, extract(epoch FROM created_at)::double precision AS created_at,
    extract(epoch FROM expires_at)::double precision AS expires_at,
    extract(epoch FROM expires_at - clock_timestamp())::double precision AS left_seconds
"""

MAKE: Final = f"""
    WITH outdated AS (
        DELETE FROM authstate.leases WHERE digest = ANY(ARRAY(
            SELECT digest FROM authstate.leases
            WHERE over_at < clock_timestamp() - %(kept)s::float8 * interval '1 second'
            ORDER BY over_at LIMIT 100 FOR UPDATE SKIP LOCKED
        ))
    )
    INSERT INTO authstate.leases
        (digest, id, account, key_id, details, created_at, expires_at, over_at, state)
    SELECT %(digest)s, %(id)s, %(account)s, %(key_id)s, %(details)s, now,
        now + lasts, now + lasts, 'active'
    FROM (SELECT clock_timestamp() AS now, %(ttl)s::float8 * interval '1 second' AS lasts) AS times
    ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest
    RETURNING {_SHOWN}
"""
"""Make a lease, and remove some that have been over for long.

The order of what is removed makes the planner use the index. Without it, it reads the table until it has found 100.
"""

FIND: Final = f"SELECT {_SHOWN} FROM authstate.leases WHERE digest = %(digest)s"

EXPIRE: Final = """
    UPDATE authstate.leases SET state = 'expired'
    WHERE digest = %(digest)s AND state = 'active' AND expires_at <= clock_timestamp() RETURNING id
"""
"""Note that the time of a lease is over, so that no clock that is put back brings it to life again."""

END: Final = f"""
    WITH ended AS (
        UPDATE authstate.leases SET state = 'ended', over_at = least(over_at, clock_timestamp())
        WHERE id = %(id)s RETURNING {_SHOWN}
    )
    SELECT ended.*, pg_notify('authstate_lease', id) FROM ended
"""

END_ALL: Final = f"""
    WITH ended AS (
        UPDATE authstate.leases SET state = 'ended', over_at = least(over_at, clock_timestamp())
        WHERE account = %(account)s AND state = 'active' AND coalesce(expires_at > clock_timestamp(), true)
        RETURNING {_SHOWN}
    )
    SELECT ended.*, pg_notify('authstate_lease', id) FROM ended
"""

LIST: Final = f"""
    SELECT {_SHOWN} FROM authstate.leases WHERE account = %(account)s ORDER BY created_at, id LIMIT %(most)s
"""

OWNERS: Final = """
    SELECT account, true AS is_current FROM authstate.accounts WHERE fingerprint = %(fingerprint)s
    UNION ALL
    SELECT account, false FROM authstate.refresh_claims WHERE fingerprint = %(fingerprint)s
    LIMIT 16
"""
"""The accounts that have a refresh token, or had it: by two indexes."""

HAS_ACCOUNT: Final = "SELECT true AS found FROM authstate.accounts WHERE account = %(account)s"

ANSWERS: Final = "SELECT NOT pg_is_in_recovery() AS is_primary"

SCHEMA_VERSION: Final = "SELECT coalesce(max(version), 0) AS version FROM authstate.migrations"
