"""What a browser login sends the person to the issuer with: the PKCE secret, the state, and the URL made of them."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

import msgspec

from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.credentials import Secret

CALLBACK_PATH: Final = "/auth/callback"

_SCOPE: Final = "openid profile email offline_access api.connectors.read api.connectors.invoke"
"""What codex asks for, from 0.120.0 on. A refresh names no scope, so that it keeps all of them."""


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """One question to the issuer, and what proves that an answer belongs to it."""

    redirect_uri: str
    code_verifier: Secret
    """Shown to the issuer with the code, so that a code that was stolen on its way is worth nothing."""
    state: Secret
    """Comes back with the answer: only who saw the question can answer it."""

    @classmethod
    def new(cls, port: int) -> "AuthorizationRequest":
        """A question whose answer comes to this port. Both secrets hold 256 bits of chance or more."""
        return cls(
            redirect_uri=f"http://localhost:{port}{CALLBACK_PATH}",
            code_verifier=Secret(secrets.token_urlsafe(64)),
            state=Secret(secrets.token_urlsafe(32)),
        )

    def url(self, issuer: Issuer, workspaces: Sequence[str] = ()) -> str:
        """The page of the issuer where the person agrees.

        Args:
            issuer: whom to ask.
            workspaces: the only ones that are allowed; empty allows all.
        """
        challenge = hashlib.sha256(self.code_verifier.reveal().encode()).digest()
        query = {
            "response_type": "code",
            "client_id": issuer.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": _SCOPE,
            "code_challenge": urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "id_token_add_organizations": "true",
            "codex_cli_simplified_flow": "true",
            "state": self.state.reveal(),
            "originator": issuer.originator,
        }
        if workspaces:
            query["allowed_workspace_id"] = ",".join(workspaces)
        return f"{issuer.url}/oauth/authorize?{urlencode(query)}"

    def is_answered_by(self, states: Sequence[str]) -> bool:
        """Whether an answer with these values of `state` belongs to this question. Compares in constant time."""
        return len(states) == 1 and hmac.compare_digest(states[0].encode(), self.state.reveal().encode())
