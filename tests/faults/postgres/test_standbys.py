"""A standby that becomes the primary, after the primary is gone."""

from collections.abc import Iterator

import pytest
from faults.postgres_parts import Login, give_up_claims, opened
from support.postgres_pair import Pair, running_pair
from support.real_parts import RealParts

from authstate import ChatgptTokens, PermanentRefreshError, StoreUnavailable


@pytest.fixture
def pair() -> Iterator[Pair]:
    with running_pair(RealParts().postgres()) as running:
        yield running


async def test_a_refresh_that_an_asynchronous_standby_lacks_is_not_lost_while_its_process_lives(pair: Pair) -> None:
    login = Login()
    url = pair.url(await pair.primary.new_database())
    async with opened(url) as database, opened(url) as elsewhere:
        await login.store_in(database)
        pair.until_followed()
        pair.standby.stop()
        async with login.engine(database) as engine:
            await engine.authorization()
            pair.fail_over()
            assert await elsewhere.store("alice").load() == login.tokens
            await engine.refresh()  # it has the newest token, and knows that the stored one is older
        assert len(login.authority.sent) == 2 and len(set(login.authority.sent)) == 2
        stored = await elsewhere.store("alice").load()
        assert isinstance(stored, ChatgptTokens) and login.authority.live == {stored.refresh_token.reveal()}


async def test_a_refresh_that_nobody_has_any_more_is_noticed_and_told(pair: Pair) -> None:
    login = Login()
    url = pair.url(await pair.primary.new_database())
    async with opened(url) as database:
        await login.store_in(database)
        pair.until_followed()
        pair.standby.stop()
        await login.refresh(database)
        pair.fail_over()
    async with opened(url) as database:
        with pytest.raises(
            PermanentRefreshError, match=r"was spent already.*was last changed by process .* Sign in again"
        ):
            await login.refresh(database)
        with pytest.raises(PermanentRefreshError):
            await login.refresh(database)  # it is not sent a second time
    assert login.authority.sent == 2 * [login.tokens.refresh_token.reveal()]


async def test_a_synchronous_standby_has_every_refresh(pair: Pair) -> None:
    login = Login()
    url = pair.url(await pair.primary.new_database())
    pair.wait_for_standbys()
    async with opened(url) as database:
        await login.store_in(database)
        login.authority.on_answer = pair.fail_over  # the claim is there, and the answer is written to the new primary
        await login.refresh(database)
        await login.assert_refreshed_once(database)
    async with opened(url) as database:
        await login.assert_refreshed_once(database)


async def test_nothing_is_sent_while_a_claim_waits_for_a_standby_that_is_gone(pair: Pair) -> None:
    login = Login()
    url = pair.url(await pair.primary.new_database())
    async with opened(url) as database:
        await login.store_in(database)
        pair.wait_for_standbys()
        pair.standby.stop()
        database.reach = give_up_claims(database)
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await login.refresh(database)
        assert login.authority.sent == []
        database.reach = lambda step: None
        pair.standby.start()
        await login.refresh(database)
        await login.assert_refreshed_once(database)
