"""What `authstate status` and `authstate token` ask the running broker of the home. Without one, they do it themselves.

The broker has read the configuration when it started, and knows no `-c` of another command. So it is asked for the same
account in the same store only, and for a token only if the configuration restricts nothing.
"""

import os

import msgspec

from authstate.adapters.broker.local_client import BrokerClient
from authstate.adapters.cli.context import CommandContext
from authstate.adapters.cli.token_formats import TokenAnswer
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.policy import Policy


class RunningBroker(msgspec.Struct, frozen=True):
    """The broker that was asked about an account."""

    url: str
    process_id: int
    issuer_fault: str | None
    """Why the issuer cannot be asked for a new access token just now."""


async def ask_broker(context: CommandContext) -> RunningBroker | None:
    """Let the broker refresh the account if its access token has expired. None if there is no broker.

    Cancelling it cancels no refresh.
    """
    client = _client(context)
    if client is None or not isinstance(context.store, VaultStore):
        return None
    state = await client.get("/v1/state")
    account = await client.account(context.store.account) if state is not None else None
    if state is None or account is None or account.get("store") != context.place:
        return None
    try:
        return msgspec.convert(
            {"url": state["url"], "process_id": state["processId"], "issuer_fault": account["issuerFault"]},
            RunningBroker,
        )
    except (KeyError, msgspec.ValidationError):  # of another release
        return None


async def token_of_broker(context: CommandContext, min_lifetime: float = 0.0) -> TokenAnswer | None:
    """Return the token that the broker has for the account. None if there is no broker, or it has none.

    Args:
        context: of the command.
        min_lifetime: seconds that the token should last.
    """
    client = _client(context)
    if client is None or not isinstance(context.store, VaultStore) or context.engine.policy != Policy():
        return None
    answer = await client.token(context.store.account, min_lifetime)
    if answer is None or answer.get("store") != context.place:
        return None
    names = {"token": "token", "kind": "kind", "workspace_id": "workspaceId", "expires_at": "expiresAt"}
    try:
        return msgspec.convert({ours: answer.get(theirs) for ours, theirs in names.items()}, TokenAnswer)
    except msgspec.ValidationError:  # of another release
        return None


def _client(context: CommandContext) -> BrokerClient | None:
    """Return the client of the home's broker. None if there is none, or `CODEX_API_KEY` wins over what it has."""
    if context.environment.api_key is not None:
        return None
    return BrokerClient.of(context.environment.home, os.environ)
