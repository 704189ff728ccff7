"""What programs are shown of an account and of a lease, by the JSON API and by the commands with `--json`.

One name means one thing in both: `account` is an object with the id and the name, and the `state` of an account is one
of the engine. Times are seconds since the epoch; the commands print them as text.
"""

from collections.abc import Mapping
from typing import Any

from authstate.adapters.vault.account_states import StoredAccount
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.engine.machines.lease import Lease
from authstate.engine.model.account import Account


def account_members(found: StoredAccount) -> dict[str, Any]:
    """Return what is shown of an account as it is stored."""
    return {
        **name_members(found.entry),
        "isSelected": found.is_selected,
        "state": found.state,
        "authMode": found.auth_mode,
        **owner_members(found.account),
        "accessTokenExpiresAt": found.expires_at,
        "storeFault": found.store_fault,
        "store": found.store,
    }


def lease_members(lease: Lease, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what is shown of a lease: everything but the digest of its handle.

    Args:
        lease: the lease.
        names: of the accounts, by id. That of an account that was removed is null.
    """
    return {
        "id": lease.id,
        "account": {"id": lease.account, "name": names.get(lease.account)},
        "label": lease.label,
        "state": lease.state,
        "createdAt": lease.created_at,
        "expiresAt": lease.expires_at,
        "isOfHome": lease.is_of_home,
    }


def name_members(entry: AccountEntry) -> dict[str, Any]:
    """Return how an account is named."""
    return {"id": entry.id, "name": entry.name}


def owner_members(account: Account | None) -> dict[str, Any]:
    """Return who is signed in."""
    if account is None:
        return {"email": None, "planType": None, "workspaceId": None}
    return {"email": account.email, "planType": account.plan_type, "workspaceId": account.account_id}
