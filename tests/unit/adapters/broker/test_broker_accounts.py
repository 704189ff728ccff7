"""The engines of a vault's accounts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.broker_world import BrokerWorld

from authstate.adapters.broker.broker_accounts import BrokerAccounts
from authstate.adapters.config.home import ConfigError


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerWorld]:
    world = BrokerWorld(tmp_path)
    yield world
    await world.close()


@pytest.fixture
def accounts(world: BrokerWorld) -> BrokerAccounts:
    found = world.broker.accounts
    assert isinstance(found, BrokerAccounts)
    return found


async def test_an_engine_is_in_step_with_other_processes(world: BrokerWorld, accounts: BrokerAccounts) -> None:
    await world.sign_in()
    async with accounts.engine("home") as engine:
        assert engine.session.credentials is not None
    newer = await world.sign_in()
    async with accounts.engine("home") as same:
        assert same is engine
        assert same.session.credentials == newer
    await world.sign_in(account_id="org-2")
    async with accounts.engine("home") as same:
        assert same.session.account is not None
        assert same.session.account.account_id == "org-2"


async def test_an_account_that_is_not_in_the_vault_has_no_engine(accounts: BrokerAccounts) -> None:
    with pytest.raises(ConfigError, match="there is no account 'nobody'"):
        async with accounts.engine("nobody"):
            pass
