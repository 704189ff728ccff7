"""What an HTTP client needs of an engine: a token for a request, and another one after a 401."""

from typing import Protocol

from authstate.engine.model.session import Authorization


class Authorizer(Protocol):
    """The part of an `AuthEngine` that authorizes requests in its event loop."""

    def fresh_authorization(self) -> Authorization | None:
        """Return a token that can be used as it is. None if it takes a wait: `authorization` does that."""
        ...

    async def authorization(self) -> Authorization:
        """Return a token that can be used. See `AuthEngine.authorization`."""
        ...

    async def recover(self, refused: Authorization) -> Authorization:
        """Return the token for another attempt after a 401. See `AuthEngine.recover`."""
        ...


class SyncAuthorizer(Protocol):
    """The part of a `SyncAuthEngine` that authorizes requests, in any thread."""

    def fresh_authorization(self) -> Authorization | None:
        """Return a token that can be used as it is, without a wait. None if it takes one: `authorization` does that."""
        ...

    def authorization(self) -> Authorization:
        """Return a token that can be used. Blocks. See `AuthEngine.authorization`."""
        ...

    def recover(self, refused: Authorization) -> Authorization:
        """Return the token for another attempt after a 401. Blocks. See `AuthEngine.recover`."""
        ...
