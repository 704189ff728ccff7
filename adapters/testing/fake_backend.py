"""A backend in memory, which accepts the access tokens of an issuer in memory. For clients on httpx."""

from typing import TYPE_CHECKING, Any

from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.transcript import Transcript
from authstate.engine.model.jwt_claims import expiry_of

if TYPE_CHECKING:
    import httpx


class FakeBackend:
    """A backend that answers 200 to a token that it accepts, 401 to any other, and 503 while it is down.

    It accepts what the authority issued, until the token expires by the authority's clock, and what `accept` adds. The
    body of a 200 is JSON: `method`, `path`, `bytes` (of the request) and `account_id` (of its header).

    Args:
        authority: whose access tokens it accepts, and in whose `transcript` it writes.
    """

    def __init__(self, authority: FakeAuthority) -> None:
        self.transcript: Transcript = authority.transcript
        """The requests so far, with those of the issuer."""
        self.is_down = False
        """Whether it answers 503."""
        self._authority = authority
        self._accepted: dict[str, str] = {}
        self._refused: set[str] = set()

    @property
    def transport(self) -> "httpx.MockTransport":
        """The transport of a client that reaches this backend, whatever the host: `httpx.AsyncClient(transport=...)`,
        or `httpx.Client`.
        """
        import httpx

        return httpx.MockTransport(self._handle)

    def accept(self, token: str, kind: str = "access") -> None:
        """Accept a key or a token that the authority did not issue.

        Args:
            token: the key or token.
            kind: how the transcript names it, with a number.
        """
        self._accepted[token] = kind
        self.transcript.name(kind, token)

    def expire_access(self) -> None:
        """Answer 401 from now on to every token that it accepts now."""
        self._refused |= {*self._accepted, *self._authority.access_tokens}

    def accepts(self, token: str) -> bool:
        """Return whether a request with this token is answered with 200."""
        if token in self._refused or not (token in self._accepted or token in self._authority.access_tokens):
            return False
        expires = expiry_of(token)
        return expires is None or expires > self._authority.now()

    def _handle(self, request: "httpx.Request") -> "httpx.Response":
        import httpx

        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        status = 503 if self.is_down else 200 if self.accepts(token) else 401
        name = self.transcript.name(self._accepted.get(token, "access"), token)
        self.transcript.add(f"{request.method} {request.url.path} {name}", str(status))
        if status != 200:
            return httpx.Response(status, json={"error": {"code": "unavailable" if self.is_down else "token_expired"}})
        answer: dict[str, Any] = {"method": request.method, "path": request.url.path, "bytes": len(request.read())}
        return httpx.Response(200, json={**answer, "account_id": request.headers.get("chatgpt-account-id")})
