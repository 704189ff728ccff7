"""What is stored in each account, read without a refresh; and whose account a login is."""

from pathlib import Path

import msgspec
import pytest
from unit.adapters.vault.conftest import save

from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.account_states import AccountState, find_login, read_account, read_accounts
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

KEY = ApiKey.parse("sk-0123456789")


async def record(vault: Vault, account: str, tokens: ChatgptTokens, *triggers: RefreshClaimTrigger) -> None:
    claim = RefreshClaim(fingerprint_of(tokens.refresh_token))
    for trigger in (RefreshClaimTrigger.CLAIM, *triggers):
        claim = claim.after(trigger, 1.0, reason=RefreshDeadReason.REVOKED)
    async with vault.store(account).locked() as held:
        await held.record(claim)


async def test_every_account_is_read_the_homes_first(vault: Vault) -> None:
    tokens = make_tokens(plan="pro")
    await save(vault.home_account, KEY)
    work = vault.add("work").id
    vault.add("empty")
    await save(vault.store(work), tokens)
    vault.select(work)
    home, office, empty = await read_accounts(vault)
    assert (home.entry.name, home.state, home.auth_mode, home.is_selected) == ("home", "api_key", "apikey", False)
    assert (office.state, office.auth_mode, office.is_selected) == ("chatgpt", "chatgpt", True)
    assert (office.account, office.expires_at) == (tokens.account, tokens.expires_at)
    assert office.store == vault.store(work).describe()
    assert (empty.state, empty.auth_mode, empty.store_fault) == (AccountState.SIGNED_OUT, None, None)
    shown = msgspec.json.encode([home, office, empty]).decode()
    assert not [one for one in (KEY.key, tokens.refresh_token, tokens.access_token) if one.reveal() in shown]


@pytest.mark.parametrize("trigger", [RefreshClaimTrigger.REFUSE, RefreshClaimTrigger.SETTLE])
async def test_a_token_that_was_refused_or_replaced_is_dead(vault: Vault, trigger: RefreshClaimTrigger) -> None:
    tokens = make_tokens()
    await save(vault.home_account, tokens)
    await record(vault, "home", tokens)
    assert (await read_account(vault, "home")).state is AccountState.CHATGPT, "it may be spent, or it may not"
    await record(vault, "home", tokens, trigger)
    found = await read_account(vault, "home")
    assert (found.state, found.account) == (AccountState.DEAD, tokens.account)


async def test_without_a_refresh_token_it_lives_as_long_as_the_access_token(vault: Vault) -> None:
    for seconds, state in ((3600.0, AccountState.CHATGPT), (-1.0, AccountState.DEAD)):
        tokens = make_tokens(expires_in=seconds)
        await save(vault.home_account, msgspec.structs.replace(tokens, refresh_token=Secret("")))
        assert (await read_account(vault, "home")).state is state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ('{"OPENAI_API_KEY": 3}', AccountState.UNREADABLE),
        ("{", AccountState.UNREADABLE),
        (
            '{"auth_mode": "bedrockApiKey", "bedrock_api_key": {"api_key": "x"}}',
            AccountState.OTHER_LOGIN,
        ),
    ],
)
async def test_a_store_that_cannot_be_read_is_one_account_that_says_so(
    vault: Vault, text: str, state: AccountState
) -> None:
    await save(vault.store(vault.add("work").id), make_tokens())
    Path(vault.home, "auth.json").write_text(text)
    home, work = await read_accounts(vault)
    assert home.state is state and home.store_fault
    assert work.state is AccountState.CHATGPT
    assert await find_login(vault, make_tokens(email="new@example.com", account_id="org-9")) is None


async def test_an_unknown_account_is_an_error(vault: Vault) -> None:
    with pytest.raises(ConfigError, match="no account 'nobody'"):
        await read_account(vault, "nobody")


async def test_a_login_is_found_by_workspace_and_user_and_a_key_by_itself(vault: Vault) -> None:
    await save(vault.home_account, KEY)
    work = vault.add("work")
    await save(vault.store(work.id), make_tokens(account_id="org-1", user_id="user-1"))
    assert await find_login(vault, KEY) == vault.accounts().named("home")
    assert await find_login(vault, ApiKey.parse("sk-another-one")) is None
    token = PersonalAccessToken.read("at-0123456789")
    assert await find_login(vault, token) is None
    personal = vault.add("personal")
    await save(vault.store(personal.id), token)
    assert await find_login(vault, msgspec.structs.replace(token, account=make_tokens().account)) == personal
    assert (await read_account(vault, personal.id)).auth_mode == "personalAccessToken"
    assert await find_login(vault, make_tokens(account_id="org-1", user_id="user-1", email="new@example.com")) == work
    assert await find_login(vault, make_tokens(account_id="org-2", user_id="user-1")) is None
    assert await find_login(vault, make_tokens(account_id="org-1", user_id="user-2")) is None
