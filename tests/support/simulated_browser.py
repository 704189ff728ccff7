"""Stands for a user with a browser: approves or declines a login at the loopback issuer and follows its redirect."""

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

from authstate.testing import LoopbackIssuer

_OPENER = build_opener(ProxyHandler({}))
_SENT = {
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "id_token_add_organizations",
    "codex_cli_simplified_flow",
    "state",
    "originator",
}


def authorization_request(issuer: LoopbackIssuer, auth_url: str) -> dict[str, str]:
    """Check that the address is the issuer's. Returns its parameters. Raises AssertionError."""
    parts = urlsplit(auth_url)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{issuer.url}/oauth/authorize"
    assert set(asked) >= _SENT, set(asked)
    assert asked["code_challenge_method"] == "S256"
    return asked


def agree(issuer: LoopbackIssuer, auth_url: str, **login: Any) -> str:
    """Approve the login. `login` is for `LoopbackIssuer.register_code`. Returns the page that is shown at the end."""
    asked = authorization_request(issuer, auth_url)
    code = f"ac_{uuid4()}"
    bound = {"code_challenge": asked["code_challenge"], "redirect_uri": asked["redirect_uri"]}
    issuer.register_code(code, **bound, **login)
    return follow_redirect(asked, code=code)


def decline(issuer: LoopbackIssuer, auth_url: str) -> str:
    """Decline the login. Returns the page that the browser shows at the end."""
    return follow_redirect(
        authorization_request(issuer, auth_url), error="access_denied", error_description="<b>The person declined</b>"
    )


def follow_redirect(asked: dict[str, str], **answer: str) -> str:
    """Follow the issuer's redirect to the loopback address, and all later ones. Returns the page."""
    return get(f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], **answer})}")


def get(url: str) -> str:
    """Fetch a page, following redirects. Its address must not contain a code or a state."""
    with _OPENER.open(url, timeout=60) as page:
        assert "code=" not in page.url and "state=" not in page.url
        text: str = page.read().decode()
        return text
