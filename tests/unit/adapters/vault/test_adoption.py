"""Moving the login of a home into the vault and back: tokens, claims and leases."""

import json
from pathlib import Path

import pytest
from support.adopted_home import COLLEAGUE, Home, home
from support.fake_keyring import fake_keyring

from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.settings import StoreMode
from authstate.engine.machines.lease import LeaseState
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import NotSignedIn, RefreshDeadReason, StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

__all__ = ["fake_keyring", "home"]

# Adopting


async def test_an_adopted_home_holds_a_lease_and_no_refresh_token(home: Home) -> None:
    tokens = make_tokens()
    await home.sign_in(tokens)
    lease = await home.adoption.adopt()
    assert lease is not None
    assert (lease.account, lease.is_of_home, lease.expires_at, lease.state) == ("home", True, None, LeaseState.ACTIVE)
    found = await home.stands_there()
    assert isinstance(found, ChatgptTokens)
    assert is_lease(found.refresh_token)
    assert (found.access_token, found.id_token, found.account) == (tokens.access_token, tokens.id_token, tokens.account)
    assert found.last_refresh is not None, "codex does not use tokens without it"
    assert (await home.handle()).digest == lease.digest
    assert await home.vault.home_account.load() == await home.in_vault() == tokens


async def test_adopting_again_changes_nothing(home: Home) -> None:
    await home.sign_in(make_tokens())
    lease = await home.adoption.adopt()
    before = await home.stands_there()
    assert await home.adoption.adopt() is None
    assert await home.stands_there() == before
    assert lease is not None
    assert home.active() == [lease.digest]


@pytest.mark.parametrize("fault", ["ended", "unknown", "damaged", "of another account"])
async def test_adopting_again_replaces_a_lease_that_does_not_work(home: Home, fault: str) -> None:
    tokens = make_tokens()
    await home.sign_in(tokens)
    lease = await home.adoption.adopt()
    assert lease is not None
    if fault == "ended":
        home.leases.end(lease.id)
    elif fault == "unknown":
        (home.folder / "authstate" / "leases.json").unlink()
    elif fault == "damaged":
        found = await home.stands_there()
        assert isinstance(found, ChatgptTokens)
        await home.sign_in(
            ChatgptTokens(found.id_token, found.access_token, Secret("authstate_lease_x"), found.account)
        )
    else:
        async with home.vault.home_account.adopted.locked() as held:
            await held.save(tokens := make_tokens(**COLLEAGUE))
    renewed = await home.adoption.adopt()
    assert renewed is not None
    assert (await home.handle()).digest == renewed.digest
    assert home.active() == [renewed.digest]
    assert renewed.is_for(tokens.account)
    assert await home.vault.home_account.load() == tokens


@pytest.mark.parametrize(
    ("stored", "error", "said"),
    [
        (None, NotSignedIn, "nobody is signed in"),
        (ApiKey.parse("sk-1"), ConfigError, "holds an API key, and a key cannot be leased"),
        (make_tokens(refresh_token=""), ConfigError, "holds no refresh token"),
    ],
    ids=["nobody", "key", "no refresh token"],
)
async def test_what_cannot_be_adopted_stays_as_it_is(
    home: Home, stored: Credentials | None, error: type[Exception], said: str
) -> None:
    if stored is not None:
        await home.sign_in(stored)
    with pytest.raises(error, match=said):
        await home.adoption.adopt()
    assert await home.vault.home_account.load() == await home.stands_there() == stored
    assert await home.in_vault() is None
    assert home.active() == []


async def test_a_lease_of_another_vault_is_the_login_of_its_home_and_is_not_adopted(home: Home) -> None:
    tokens = make_tokens(refresh_token=LeaseHandle.of(bytes(32)).text().reveal())
    await home.sign_in(tokens)
    for _ in range(2):
        with pytest.raises(ConfigError, match="holds a lease of another vault: adopt the login where it was made"):
            await home.adoption.adopt()
        assert not await home.adoption.release()
        assert await home.vault.home_account.load() == tokens, "it is still signed in"
        async with home.vault.home_account.locked() as held:
            assert await held.load() == tokens


async def test_a_home_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    (tmp_path / "auth.json").write_text('{"auth_mode"')
    with pytest.raises(StoreUnavailable, match=r"auth\.json"):
        await home.adoption.adopt()
    assert (tmp_path / "auth.json").read_text() == '{"auth_mode"'


async def test_a_vault_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(tokens := make_tokens())
    (tmp_path / "authstate").write_text("a file")
    with pytest.raises(StoreUnavailable, match="authstate"):
        await home.adoption.adopt()
    assert await home.stands_there() == tokens


async def test_the_folders_of_the_vault_are_for_this_user_only(tmp_path: Path) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    for folder in (tmp_path / "authstate", tmp_path / "authstate" / "accounts" / "home"):
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_members_that_authstate_does_not_know_stay_in_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())
    path = tmp_path / "auth.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"theirs": [1]}))
    await home.adoption.adopt()
    assert json.loads(path.read_text())["theirs"] == [1]
    await home.adoption.release()
    assert json.loads(path.read_text())["theirs"] == [1]


# Releasing


async def test_a_released_home_holds_its_login_again(home: Home) -> None:
    tokens = make_tokens()
    await home.sign_in(tokens)
    await home.adoption.adopt()
    handle = await home.handle()
    assert await home.adoption.release()
    assert await home.stands_there() == await home.vault.home_account.load() == tokens
    assert await home.in_vault() is None
    ended = home.leases.find(handle)
    assert ended is not None
    assert ended.state is LeaseState.ENDED
    assert not await home.adoption.release()


async def test_what_was_never_adopted_is_not_released(home: Home) -> None:
    await home.sign_in(tokens := make_tokens())
    assert not await home.adoption.release()
    assert await home.stands_there() == tokens
    assert not (home.folder / "authstate").exists()


async def test_a_login_goes_back_and_forth_ten_times(home: Home) -> None:
    await home.sign_in(tokens := make_tokens())
    for _ in range(10):
        assert await home.adoption.adopt() is not None
        assert await home.vault.home_account.load() == tokens
        assert await home.adoption.release()
        assert await home.vault.home_account.load() == tokens
    assert home.active() == []


# What is known of the refresh token


@pytest.mark.parametrize("state", [RefreshClaimState.DOUBTFUL, RefreshClaimState.CLAIMED, RefreshClaimState.DEAD])
async def test_what_is_known_of_the_refresh_token_is_taken_along(home: Home, state: RefreshClaimState) -> None:
    tokens = make_tokens()
    fingerprint = fingerprint_of(tokens.refresh_token)
    reason = RefreshDeadReason.REVOKED if state is RefreshClaimState.DEAD else None
    await home.sign_in(tokens)
    async with home.vault.home_account.home.locked() as held:
        await held.record(RefreshClaim(fingerprint, state, 1.0, sends=1, reason=reason))
    await home.adoption.adopt()
    of_vault = await home.vault.home_account.adopted.claim_on(fingerprint)
    assert of_vault is not None
    assert (of_vault.state, of_vault.reason) == (state, reason)
    await home.adoption.release()
    of_home = await home.vault.home_account.home.claim_on(fingerprint)
    assert of_home is not None
    assert (of_home.state, of_home.reason) == (state, reason)


@pytest.mark.parametrize("first", ["home", "adopted"])
@pytest.mark.parametrize("final", [RefreshClaimState.SPENT, RefreshClaimState.DEAD])
async def test_a_token_that_is_spent_in_one_place_is_so_in_both(
    home: Home, first: str, final: RefreshClaimState
) -> None:
    """The other place still has the doubt from before the login was moved."""
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    store = home.vault.home_account
    states = (final, RefreshClaimState.DOUBTFUL) if first == "home" else (RefreshClaimState.DOUBTFUL, final)
    for place, state in zip((store.home, store.adopted), states, strict=True):
        async with place.locked() as held:
            await held.record(RefreshClaim("ab" * 16, state, 1.0))
    found = await store.claim_on("ab" * 16)
    assert found is not None
    assert found.state is final
    assert await store.claim_on("cd" * 16) is None


# Somebody else signed in or out over the lease


async def test_a_sign_out_by_codex_signs_out_and_release_removes_what_is_left(home: Home) -> None:
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    await home.sign_out()
    assert await home.vault.home_account.load() is None
    assert not await home.adoption.release()
    assert await home.in_vault() is None
    assert [entry.id for entry in home.vault.accounts().entries] == ["home"]
    assert home.active() == []


@pytest.mark.parametrize("follow_up", ["adopt", "release"])
async def test_a_sign_in_of_somebody_else_by_codex_leaves_the_login_as_an_account(home: Home, follow_up: str) -> None:
    before, after = make_tokens(email="a.b@example.com"), make_tokens(**COLLEAGUE)
    await home.sign_in(before)
    await home.adoption.adopt()
    await home.sign_in(after)
    assert await home.vault.home_account.load() == after
    if follow_up == "adopt":
        lease = await home.adoption.adopt()
        assert lease is not None
        assert (home.active(), await home.in_vault()) == ([lease.digest], after)
    else:
        assert not await home.adoption.release()
        assert (home.active(), await home.in_vault()) == ([], None)
    assert await home.vault.home_account.load() == after
    _, entry = home.vault.accounts().entries
    assert entry.name == "a.b"
    assert await home.vault.store(entry.id).load() == before


async def test_a_sign_in_with_a_key_by_codex_leaves_the_login_as_an_account(home: Home) -> None:
    before = make_tokens()
    await home.sign_in(before)
    await home.adoption.adopt()
    await home.sign_in(ApiKey.parse("sk-1"))
    assert not await home.adoption.release()
    _, entry = home.vault.accounts().entries
    assert await home.vault.store(entry.id).load() == before


async def test_a_new_sign_in_of_the_same_person_by_codex_replaces_the_login(home: Home) -> None:
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    await home.sign_in(newer := make_tokens())
    assert await home.vault.home_account.load() == newer
    await home.adoption.adopt()
    assert await home.in_vault() == newer
    assert len(home.vault.accounts().entries) == 1


async def test_a_login_that_was_set_aside_and_refreshed_is_not_set_aside_again(home: Home) -> None:
    """An adoption was killed between the two: a second copy would hold a spent refresh token."""
    before = make_tokens()
    await home.sign_in(before)
    await home.adoption.adopt()
    await home.sign_in(make_tokens(**COLLEAGUE))
    aside = home.vault.add("aside")
    async with home.vault.store(aside.id).locked() as held:
        await held.save(make_tokens())
    await home.adoption.adopt()
    assert [entry.name for entry in home.vault.accounts().entries] == ["home", "aside"]
