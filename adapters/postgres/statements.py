"""The SQL of a store. Each statement is a whole transaction, and may be repeated after a connection was lost.

A hold is the exclusive right to change a row. Its `writer` is a number that nobody else has. It ends by itself, by the
clock of the database. Whoever finds one whose time has been over for a margin takes the row, and is its writer from
then on.

`generation` counts the writes to a row. Each write names the generation that it makes, and writes nothing if the row
has another writer, or a later generation already (compare-and-swap). So a write that is repeated is done once, and one
that was lost on its way and arrives late, behind a later write of the same hold, is not done.

Both sides of an operator have the types of one in pg_catalog. PostgreSQL prefers an operator of exactly the types in
any schema of the search path, so another role could define one, and it would run with our rights.
"""

from typing import Final

_OURS: Final = """
    account = %(account)s AND writer = %(writer)s AND generation <= %(generation)s
"""
_UNTIL: Final = "clock_timestamp() + %(seconds)s * interval '1 second'"
_CLAIM: Final = """
    INSERT INTO authstate.refresh_claims AS c
        (account, fingerprint, number, state, at, holder, sends, reason, detail, owner, successor)
    SELECT %(account)s, %(fingerprint)s, written.generation, %(state)s, %(at)s, %(holder)s, %(sends)s, %(reason)s,
           %(detail)s, %(owner)s, %(successor)s
    FROM written
    ON CONFLICT (account, fingerprint) DO UPDATE SET
        number = excluded.number, state = excluded.state, at = excluded.at, holder = excluded.holder,
        sends = excluded.sends, reason = excluded.reason, detail = excluded.detail, owner = excluded.owner,
        successor = excluded.successor
"""
_PRUNE: Final = """
    DELETE FROM authstate.refresh_claims
    WHERE EXISTS (SELECT FROM written) AND account = %(account)s AND number < (
        SELECT number FROM authstate.refresh_claims WHERE account = %(account)s
        ORDER BY number DESC OFFSET %(kept)s - 1 LIMIT 1
    )
"""
_LOGIN: Final = """
    version = a.version + 1, key_id = %(key_id)s, login = %(login)s, fingerprint = %(login_fingerprint)s,
    changed_at = clock_timestamp(), changed_by = %(holder)s
"""
_VERSION: Final = "SELECT version FROM written"

TAKE: Final = f"""
    WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    taken AS (
        INSERT INTO authstate.accounts AS a (account, generation, writer, holder, held_until)
        SELECT %(account)s, 1, %(writer)s, %(holder)s, {_UNTIL} FROM relaxed
        ON CONFLICT (account) DO UPDATE SET
            generation = greatest(a.generation + (a.writer <> excluded.writer)::int, %(generation)s),
            writer = excluded.writer,
            holder = excluded.holder, held_until = greatest(a.held_until, excluded.held_until)
        WHERE a.held_until IS NULL OR a.writer = excluded.writer
            OR a.held_until < clock_timestamp() - %(margin)s * interval '1 second'
        RETURNING generation, version, key_id, login
    )
    SELECT generation, version, key_id, login FROM taken
"""
"""Take the hold of a row, which is made if it is missing. Yields no row while another holder has it.

A writer that took it before takes it again, with a generation that none of its earlier writes has. So those that are
still on their way are refused. Its commit need not be durable: if it is lost, so is the hold, and the writes of its
holder are refused.
"""

RELEASE: Final = f"""
    WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    written AS (
        UPDATE authstate.accounts SET generation = %(generation)s, held_until = NULL
        FROM relaxed WHERE {_OURS} AND held_until IS NOT NULL RETURNING generation
    )
    SELECT generation, pg_notify('authstate_free', %(account)s) FROM written
"""

RENEW: Final = f"""
    UPDATE authstate.accounts SET generation = %(generation)s, held_until = {_UNTIL}
    WHERE {_OURS} RETURNING generation
"""

CLAIM: Final = f"""
    WITH written AS (
        UPDATE authstate.accounts SET generation = %(generation)s, held_until = {_UNTIL}
        WHERE {_OURS} RETURNING generation
    ), claim AS ({_CLAIM}), pruned AS ({_PRUNE})
    SELECT generation FROM written
"""
"""Write a claim, and hold the row for the time of a request."""

RECORD: Final = f"""
    WITH written AS (
        UPDATE authstate.accounts SET generation = %(generation)s
        WHERE {_OURS} RETURNING generation
    ), claim AS ({_CLAIM}), pruned AS ({_PRUNE})
    SELECT generation FROM written
"""

FREE: Final = f"""
    WITH written AS (
        UPDATE authstate.accounts SET generation = %(generation)s
        WHERE {_OURS} RETURNING generation
    ), freed AS (
        DELETE FROM authstate.refresh_claims USING written WHERE account = %(account)s AND fingerprint = %(fingerprint)s
    )
    SELECT generation FROM written
"""

SAVE: Final = f"""
    WITH written AS (
        UPDATE authstate.accounts AS a SET generation = %(generation)s, {_LOGIN}
        WHERE {_OURS} RETURNING version
    )
    {_VERSION}
"""

SETTLE: Final = f"""
    WITH written AS (
        UPDATE authstate.accounts AS a SET
            generation = %(generation)s, held_until = NULL, {_LOGIN}
        WHERE {_OURS} RETURNING generation, version
    ), claim AS ({_CLAIM}), pruned AS ({_PRUNE})
    {_VERSION}
"""
"""Store the answer of the issuer, end the claim, and give the row free, in one step."""

TELL: Final = """
    WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    SELECT pg_notify('authstate_login', told.account || ' ' || told.version::text)
    FROM relaxed, unnest(%(accounts)s::text[], %(versions)s::bigint[]) AS told (account, version)
"""
"""Notify whoever listens that logins were changed. See change_notices.py."""

LOAD: Final = "SELECT generation, version, key_id, login FROM authstate.accounts WHERE account = %(account)s"

FIND_CLAIM: Final = """
    SELECT fingerprint, state, at, holder, sends, reason, detail, owner, successor
    FROM authstate.refresh_claims WHERE account = %(account)s AND fingerprint = %(fingerprint)s
"""

HOLDER: Final = """
    SELECT holder, extract(epoch FROM held_until - clock_timestamp())::double precision AS left_seconds
    FROM authstate.accounts WHERE account = %(account)s AND held_until IS NOT NULL
"""

LAST_CHANGE: Final = """
    SELECT changed_by, extract(epoch FROM changed_at)::double precision AS at
    FROM authstate.accounts WHERE account = %(account)s AND changed_at IS NOT NULL
"""

CHECKED_KEY: Final = """
    INSERT INTO authstate.encryption_keys (key_id, checked) VALUES (%(key_id)s, %(checked)s)
    ON CONFLICT (key_id) DO UPDATE SET key_id = excluded.key_id RETURNING checked
"""
"""Return the check value of a key. It is noted, if the key is new here."""

RECENT: Final = """
    SELECT a.account, a.version, t.now
    FROM (SELECT extract(epoch FROM clock_timestamp())::double precision AS now) AS t
    LEFT JOIN authstate.accounts AS a
        ON a.changed_at > to_timestamp(
            CASE WHEN %(since)s > 0::float8 THEN %(since)s - 15::float8 ELSE t.now - 60::float8 END
        )
"""
"""Find the logins that were changed since a time of the database, and what time it is there. Some are found twice: a
change is seen only when it is committed, which may be a little later.
"""
