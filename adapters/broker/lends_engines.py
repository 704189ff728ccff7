"""What the token grants need from the accounts of a broker."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from authstate.adapters.broker.token_owners import TokenOwner
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.secret import Secret


class FindsOwners(Protocol):
    """Finds out whose a refresh token is: see `TokenOwners`."""

    def remember(self, account: str, stored: ChatgptTokens) -> TokenOwner:
        """Note what is stored in an account, and return whose it is."""
        ...

    async def known(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of a token that was seen in an account. Unknown tokens cost nothing."""
        ...

    async def find(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of any token. Raises StoreUnavailable if it cannot be looked for now."""
        ...


class LendsEngines(Protocol):
    """The accounts of a broker: see `BrokerAccounts`."""

    def engine(self, account: str) -> AbstractAsyncContextManager[AuthEngine]:
        """Lend the engine of an id, in step with what other processes have stored."""
        ...

    @property
    def fault(self) -> StoreUnavailable | None:
        """Why no account can be refreshed just now: the logins cannot be written. None as far as is known."""
        ...

    def how_to_sign_in(self, account: str) -> str:
        """Return what a person does to sign in to an id, for the end of a message."""
        ...

    def home_of(self, account: str) -> str | None:
        """Return what codex uses as its home with an account. It need not exist. None if no home belongs to it."""
        ...

    async def update_lease_of_home(self) -> None:
        """Bring the lease in the home up to date with the login in the vault, if it was left behind."""
        ...

    @property
    def owners(self) -> FindsOwners:
        """Whose a refresh token is."""
        ...
