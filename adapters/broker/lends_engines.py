"""What the token grants need from the accounts of a broker."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from authstate.adapters.broker.token_owners import TokenOwner
from authstate.engine.engine import AuthEngine
from authstate.engine.model.secret import Secret


class FindsOwners(Protocol):
    """Finds out whose a refresh token is: see `TokenOwners`."""

    async def known(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of a token that was seen in an account."""
        ...

    async def find(self, refresh_token: Secret) -> TokenOwner | None:
        """Return the owner of any token. It looks into every account."""
        ...


class LendsEngines(Protocol):
    """The accounts of a broker: see `BrokerAccounts`."""

    def engine(self, account: str) -> AbstractAsyncContextManager[AuthEngine]:
        """Lend the engine of an id, in step with what other processes have stored."""
        ...

    def home_of(self, account: str) -> str:
        """Return what codex uses as its home with an account. It need not exist."""
        ...

    async def update_lease_of_home(self) -> None:
        """Bring the lease in the home up to date with the login in the vault, if it was left behind."""
        ...

    @property
    def owners(self) -> FindsOwners:
        """Whose a refresh token is."""
        ...
