"""An engine whose tokens are numbered, and a backend that accepts one of them and remembers what was sent."""

from typing import Any

from support.http_libraries import mocked

from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization

URL = "https://backend.example/api"


class NumberedEngine:
    """Hands out token 1, 2, 3, ...; a recovery moves on to the next one, unless it is told to fail."""

    def __init__(self, failure: Any = None, accounts: Any = ("org-1",)) -> None:
        self.generation = 1
        self.failure = failure
        self.accounts = accounts
        self.recoveries = 0

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        if isinstance(self.failure, NotSignedIn):
            raise self.failure
        account = self.accounts[min(self.generation, len(self.accounts)) - 1]
        return Authorization(Secret(f"token-{self.generation}"), account, self.generation)

    async def recover(self, refused: Authorization) -> Any:
        self.recoveries += 1
        if self.failure:
            raise self.failure
        if refused.generation == self.generation:
            self.generation += 1
        return await self.authorization()


class Backend:
    """Accepts one token and remembers what was sent."""

    def __init__(self, library: Any, accepts: int = 1, redirect: Any = None) -> None:
        self.library = library
        self.accepts = accepts
        self.redirect = redirect
        self.seen: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.seen.append((request.headers.get("authorization"), request.headers.get("chatgpt-account-id")))
        self.body = request.read()
        if self.redirect and request.url.host == "backend.example":
            return self.library.Response(307, headers={"location": self.redirect})
        accepted = request.headers.get("authorization") == f"Bearer token-{self.accepts}"
        return self.library.Response(200 if accepted else 401)

    def client(self, auth: Any, **options: Any) -> Any:
        return mocked(self.library, self, auth, **options)
