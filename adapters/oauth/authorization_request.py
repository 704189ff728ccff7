"""The authorization request of a browser login: the PKCE verifier, the state, and the URL that contains them."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

import msgspec

from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.secret import Secret

CALLBACK_PATH: Final = "/auth/callback"

_SCOPE: Final = "openid profile email offline_access api.connectors.read api.connectors.invoke"
"""What codex asks for, from 0.120.0 on. A refresh names no scope, so that it keeps all of them."""


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """One request to the issuer, and the secrets that prove that a response belongs to it."""

    redirect_uri: str
    code_verifier: Secret
    """Sent with the code, so that a stolen code is worthless."""
    state: Secret
    """Returned with the response: only someone who saw the request can answer it."""

    @classmethod
    def new(cls, port: int) -> "AuthorizationRequest":
        """Make a request that is answered on this port. Both secrets have at least 256 random bits."""
        return cls(
            redirect_uri=f"http://localhost:{port}{CALLBACK_PATH}",
            code_verifier=Secret(secrets.token_urlsafe(64)),
            state=Secret(secrets.token_urlsafe(32)),
        )

    def url(self, issuer: Issuer, workspaces: Sequence[str] = ()) -> str:
        """The page of the issuer where the person agrees.

        Args:
            issuer: the issuer.
            workspaces: the allowed workspaces; empty allows all.
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
        """Whether a response with these values of `state` belongs to this request. Compares in constant time."""
        return len(states) == 1 and hmac.compare_digest(states[0].encode(), self.state.reveal().encode())
