"""An adoption or a release while codex writes auth.json without a lock, or on a disk that fails."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from support.adopted_home import COLLEAGUE, Home, failing, home, write_as_codex
from support.fake_keyring import fake_keyring

from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_writer import HeldAuthJson
from authstate.adapters.vault.home_account import leased
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import NotSignedIn, StoreBusy, StoreUnavailable
from authstate.engine.model.lease_handle import is_lease
from authstate.testing import make_tokens

__all__ = ["fake_keyring", "home"]


def disturb(monkeypatch: pytest.MonkeyPatch, home: Home, work: Callable[[int], None]) -> None:
    """Call `work` with 1, 2, 3 and so on, each time the home is ready for its last write."""
    original, times = HeldAuthJson.prepare, count(1)

    async def prepare(held: HeldAuthJson) -> None:
        await original(held)
        if held._target == str(home.folder / "auth.json"):
            work(next(times))

    monkeypatch.setattr(HeldAuthJson, "prepare", prepare)


@pytest.mark.parametrize("who", ["the same person", "somebody else"])
async def test_a_sign_in_of_codex_in_the_middle_of_an_adoption_is_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())
    newer = make_tokens() if who == "the same person" else make_tokens(**COLLEAGUE)

    def sign_in(times: int) -> None:
        if times == 1:
            write_as_codex(home, newer)

    disturb(monkeypatch, home, sign_in)
    lease = await home.adoption.adopt()
    assert lease is not None
    found = await home.vault.home_account.load()
    assert isinstance(found, ChatgptTokens)
    assert found.is_same_material_as(newer)
    assert lease.is_for(newer.account)
    assert home.active() == [lease.digest]
    assert len(home.vault.accounts().entries) == 1, "what codex replaced is gone, as without an adoption"


async def test_a_sign_out_of_codex_in_the_middle_of_an_adoption_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())

    def sign_out(times: int) -> None:
        write_as_codex(home, None)

    disturb(monkeypatch, home, sign_out)
    with pytest.raises(NotSignedIn):
        await home.adoption.adopt()
    assert await home.vault.home_account.load() is None
    assert (await home.in_vault(), home.active()) == (None, [])


async def test_a_sign_in_of_codex_in_the_middle_of_a_release_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(before := make_tokens())
    await home.adoption.adopt()
    newer = make_tokens(**COLLEAGUE)

    def sign_in(times: int) -> None:
        write_as_codex(home, newer)

    disturb(monkeypatch, home, sign_in)
    assert not await home.adoption.release()
    found = await home.stands_there()
    assert isinstance(found, ChatgptTokens)
    assert found.is_same_material_as(newer)
    assert await home.in_vault() is None
    assert await home.vault.store(home.vault.accounts().entries[1].id).load() == before


@pytest.mark.parametrize("what", ["adopt", "release"])
async def test_a_program_that_writes_all_the_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())
    if what == "release":
        await home.adoption.adopt()
        stood = await home.handle()

    def refresh(times: int) -> None:
        newer = make_tokens()
        if what == "release":  # as a leased child does
            newer = leased(newer, stood.text().reveal())
        write_as_codex(home, newer)

    disturb(monkeypatch, home, refresh)
    with pytest.raises(StoreBusy, match=r"another program changes .* all the time: end the codex processes"):
        await (home.adoption.adopt() if what == "adopt" else home.adoption.release())
    found = await home.vault.home_account.load()
    assert isinstance(found, ChatgptTokens)
    assert not is_lease(found.refresh_token)


@pytest.mark.parametrize("what", ["adopt", "release"])
@pytest.mark.parametrize("step", ["publish", "remove"])
@pytest.mark.parametrize("file", ["leases.json", "home/auth.json", "authstate.claims"])
async def test_a_disk_that_fails_at_any_step_leaves_one_login_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, step: str, file: str
) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(tokens := make_tokens())
    async with home.vault.home_account.home.locked() as held:
        await held.record(RefreshClaim(fingerprint_of(tokens.refresh_token), RefreshClaimState.DOUBTFUL, 1.0))
    if what == "release":
        await home.adoption.adopt()
    with monkeypatch.context() as patch:
        patch.setattr(Disk, step, failing(step, file))
        try:
            await (home.adoption.adopt() if what == "adopt" else home.adoption.release())
        except StoreUnavailable as fault:
            assert tokens.refresh_token.reveal() not in str(fault)
    assert await home.vault.home_account.load() == tokens
    claim = await home.vault.home_account.claim_on(fingerprint_of(tokens.refresh_token))
    assert claim is not None
    assert claim.is_in_doubt
    await home.adoption.adopt()
    assert len(home.active()) == 1
    await home.adoption.release()
    assert (home.active(), await home.in_vault(), await home.stands_there()) == ([], None, tokens)
