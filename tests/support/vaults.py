"""Vaults with accounts in which somebody is signed in, for tests."""

from pathlib import Path
from typing import Any

from authstate.adapters.config import StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import LoopbackIssuer

_NAMES = ("id_token", "access_token", "refresh_token", "account_id")


def seeded_tokens(issuer: LoopbackIssuer, **login: Any) -> ChatgptTokens:
    """Tokens that the issuer gave just now. `login` is as for `LoopbackIssuer.seed`."""
    tokens = issuer.seed(**login)
    return ChatgptTokens.read(**{name: tokens[name] for name in _NAMES}, last_refresh=1_700_000_000.0)


async def add_account(home: Path, issuer: LoopbackIssuer, name: str, **login: Any) -> str:
    """Add an account to the vault of a home and sign somebody in. Returns its id."""
    vault = Vault(home, StoreMode.FILE)
    account = vault.add(name).id
    async with vault.store(account).locked() as held:
        await held.save(seeded_tokens(issuer, **login))
    return account
