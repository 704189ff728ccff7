"""A machine whose wall clock is wrong: no hold depends on it."""

import sys
from pathlib import Path

import pytest
from faults.forked_processes import token_digest
from faults.stopped_holder import KEYS, SETTINGS
from faults.stopped_process import Holder
from support.real_parts import RealParts

from authstate import AuthEngine, ChatgptTokens, PostgresDatabase, StoreBusy
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.postgres.store import PostgresStore
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP exists on Unix only")


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_a_clock_that_is_an_hour_wrong_ends_no_hold(
    offset: str, database_url: str, real_parts: RealParts, tmp_path: Path
) -> None:
    with LoopbackIssuer() as issuer:
        wrong = {"LD_PRELOAD": str(real_parts.faketime()), "FAKETIME": offset}
        holder = Holder(database_url, issuer, tmp_path, **wrong)
        async with PostgresDatabase(database_url, KEYS, connections=2, listens=False) as database:
            store = PostgresStore(database, "alice", lock_timeout=0.0)
            async with store.locked() as held:
                await held.save(ChatgptTokens.read(**issuer.seed(expires_in=-7200, next_expires_in=7200)))
            try:
                holder.start("before check")
                holder.until_stopped()
                authority = HttpTokenAuthority(issuer.url, "client")
                async with AuthEngine(store, authority, settings=SETTINGS) as engine:
                    with pytest.raises(StoreBusy, match="is in use by process"):
                        await engine.authorization()
                    report = holder.go_on()
                    await engine.authorization()
                    assert report == {"errors": [], "token": token_digest(engine.session.credentials)}
            finally:
                holder.end()
        stats = issuer.stats()
        assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
