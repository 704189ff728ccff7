"""What codex gets in a home that was adopted, when a broker was killed between the vault and the home."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.broker_in_memory import BrokerInMemory, broker_in

from authstate.adapters.broker.token_grants import PresentedToken
from authstate.adapters.vault.adoption import Adoption
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import make_tokens


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerInMemory]:
    async with broker_in(tmp_path) as made:
        assert await Adoption(made.vault, made.leases).adopt() is not None
        yield made


async def in_home(world: BrokerInMemory) -> ChatgptTokens:
    found = await world.vault.home_account.home.load()
    assert isinstance(found, ChatgptTokens)
    return found


async def killed_after_the_vault(world: BrokerInMemory) -> ChatgptTokens:
    """The vault has new tokens, and the lease in the home is that of the old ones."""
    newer = make_tokens()
    world.authority.accept(newer)
    async with world.vault.home_account.adopted.locked() as held:
        await held.save(newer)
    return newer


async def test_the_lease_in_the_home_is_brought_up_to_date_with_the_answer(world: BrokerInMemory) -> None:
    """The answer has no handle. Without this, the next one that codex presents would tell of an older access token,
    and the broker would go on to answer with one that the backend refuses.
    """
    newer = await killed_after_the_vault(world)
    grant = await world.broker.grants.refresh(PresentedToken((await in_home(world)).refresh_token))
    assert (grant.access_token, grant.refresh_token) == (newer.access_token.reveal(), None)
    lease = await in_home(world)
    assert lease.access_token == newer.access_token
    again = await world.broker.grants.refresh(PresentedToken(lease.refresh_token))
    assert again.access_token != newer.access_token.reveal(), "it was refused, so it was refreshed"


async def test_a_home_that_cannot_be_read_hides_no_token(
    world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = await killed_after_the_vault(world)
    presented = (await in_home(world)).refresh_token
    store = world.vault.home_account

    async def broken() -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(store, "update_lease", broken)
    grant = await world.broker.grants.refresh(PresentedToken(presented))
    assert grant.access_token == newer.access_token.reveal()
