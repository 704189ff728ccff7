"""What the holder of a row can do with it. See `HeldStore`."""

import asyncio
from collections.abc import Mapping
from typing import Any

from authstate.adapters.postgres import statements
from authstate.adapters.postgres.changes import Watched
from authstate.adapters.postgres.connections import PostgresConnections, Row
from authstate.adapters.postgres.hold import Hold
from authstate.adapters.postgres.rows import claim_values
from authstate.adapters.postgres.sealed_logins import LoginDamaged, SealedLogin
from authstate.adapters.stores.auth_json_format import decode, encode
from authstate.adapters.stores.off_loop import completed
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks_of_methods

_NOTHING: Mapping[str, Any] = {"key_id": None, "login": None, "login_fingerprint": None}


@strip_tracebacks_of_methods
class HeldRow:
    """A `HeldStore`. Every write fails, and changes nothing, if another process took the row meanwhile.

    Args:
        database: where the row is.
        hold: on the row.
        place: its name, for a person.
        row: as it was when the hold was taken.
        watched: what is known of the row in this process.
    """

    def __init__(self, database: PostgresConnections, hold: Hold, place: str, row: Row, watched: Watched) -> None:
        self._database = database
        self._hold = hold
        self._place = place
        self._row: Row | None = row
        self._watched = watched
        self._is_read = False  # whether the row was given to a load

    @property
    def key_id(self) -> str | None:
        """The id of the key that encrypts what was read last. None if nothing is stored."""
        return None if self._row is None else self._row["key_id"]

    async def load(self) -> Credentials | None:
        """See `HeldStore`."""
        if self._is_read:
            self._row = await self._database.fetch(statements.LOAD, {"account": self._hold.account})
        self._watched.read(self._row)
        self._is_read = True
        content = await read_login(self._database, self._hold.account, self._row)
        return None if content is None else decode(content, self._place).credentials

    async def prepare(self) -> None:
        """See `HeldStore`. Renews the hold, which is a write to the same row."""
        await self._write(statements.RENEW, {}, seconds=self._hold.times.lock)

    async def prepare_to_save(self) -> None:
        """Check that a login can be encrypted here, and renew the hold. Raises StoreUnavailable, StoreUnreadable."""
        await self._database.logins.current_key()
        await self.prepare()

    async def save(self, credentials: Credentials) -> None:
        """See `HeldStore`."""
        await self._replace(statements.SAVE, await self._sealed(credentials))

    async def delete(self) -> None:
        """See `HeldStore`."""
        await self._readable_content()
        await self._replace(statements.SAVE, _NOTHING)

    async def discard(self) -> None:
        """Remove what is stored, whether it can be read or not. Raises StoreBusy, StoreUnavailable.

        Unlike `delete`, it also removes a login whose key is missing or wrong.
        """
        await self._replace(statements.SAVE, _NOTHING)

    async def record(self, claim: RefreshClaim) -> None:
        """See `HeldStore`."""
        if claim.state is RefreshClaimState.FREE:
            await self._write(statements.FREE, {"fingerprint": claim.fingerprint})
        elif claim.state is RefreshClaimState.CLAIMED:
            await self._write(statements.CLAIM, claim_values(claim), seconds=self._hold.times.claim)
        else:
            await self._write(statements.RECORD, claim_values(claim))

    async def prepare_and_record(self, claim: RefreshClaim) -> None:
        """See `CombinesWrites`. The claim is a write to the same row, so it needs no preparation."""
        await self.record(claim)

    async def save_and_record(self, credentials: Credentials, claim: RefreshClaim) -> None:
        """See `CombinesWrites`. One transaction; it also gives the row free."""
        if claim.state is RefreshClaimState.FREE:
            await self.save(credentials)
            await self.record(claim)
            return
        try:
            await self._replace(statements.SETTLE, {**await self._sealed(credentials), **claim_values(claim)})
        except StoreUnavailable:
            self._hold.keep()  # the answer is only here
            raise
        self._hold.note_free()

    async def renew(self) -> None:
        """See `LimitsSending`."""
        await self._write(statements.RENEW, {}, seconds=self._hold.times.claim)

    def ensure_may_send(self) -> None:
        """See `LimitsSending`."""
        self._hold.ensure_may_send()

    async def _replace(self, statement: str, values: Mapping[str, Any]) -> None:
        """Write a login, and keep it for the next write."""
        with self._watched.writing(self._row["version"] + 1 if self._row is not None else 1):
            written = await self._write(statement, values)
        self._watched.read(written)
        self._row = {"key_id": values["key_id"], "login": values["login"], "version": written["version"]}
        self._database.notices.send(self._hold.account, written["version"])

    async def _write(self, statement: str, values: Mapping[str, Any], *, seconds: float = 0.0) -> Row:
        return await completed(asyncio.ensure_future(self._hold.write(statement, values, seconds=seconds)))

    async def _sealed(self, credentials: Credentials) -> Mapping[str, Any]:
        """The values of a login for a statement. Raises TypeError for external tokens, StoreUnreadable."""
        data = encode(credentials, await self._readable_content(), indent=-1)
        sealed = await self._database.logins.seal(self._hold.account, data)
        return {
            "key_id": sealed.key_id,
            "login": sealed.data,
            "login_fingerprint": _fingerprint(credentials),
        }

    async def _readable_content(self) -> bytes | None:
        """What is stored. None if there is nothing, or if it is damaged. Raises StoreUnreadable for a wrong key."""
        try:
            return await read_login(self._database, self._hold.account, self._row)
        except LoginDamaged:
            return None


def _fingerprint(credentials: Credentials) -> str | None:
    """The fingerprint of the refresh token, by which the owner of a token is found. None if there is none."""
    if isinstance(credentials, ChatgptTokens) and credentials.can_refresh:
        return fingerprint_of(credentials.refresh_token)
    return None


async def read_login(database: PostgresConnections, account: str, row: Row | None) -> bytes | None:
    """Decrypt the login of a row. None if there is none. Raises StoreUnreadable, StoreUnavailable."""
    if row is None or row["login"] is None:
        return None
    return await database.logins.unseal(account, SealedLogin(row["key_id"], bytes(row["login"])))
