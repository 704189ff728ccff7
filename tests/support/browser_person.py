"""The person in the browser: a small HTTP client that agrees at the loopback issuer and follows the redirect back."""

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

from authstate.adapters.testing import LoopbackIssuer

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


def question(issuer: LoopbackIssuer, auth_url: str) -> dict[str, str]:
    """The parameters of the page that the person opens, which must be the issuer's."""
    parts = urlsplit(auth_url)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{issuer.url}/oauth/authorize"
    assert set(asked) >= _SENT, set(asked)
    assert asked["code_challenge_method"] == "S256"
    return asked


def agree(issuer: LoopbackIssuer, auth_url: str, **login: Any) -> str:
    """Agree to sign in as `login`; the page that the browser shows in the end."""
    asked = question(issuer, auth_url)
    code = f"ac_{uuid4()}"
    bound = {"code_challenge": asked["code_challenge"], "redirect_uri": asked["redirect_uri"]}
    issuer.register_code(code, **bound, **login)
    return come_back(asked, code=code)


def decline(issuer: LoopbackIssuer, auth_url: str) -> str:
    """Decline; the page that the browser shows in the end."""
    return come_back(question(issuer, auth_url), error="access_denied", error_description="<b>The person declined</b>")


def come_back(asked: dict[str, str], **answer: str) -> str:
    """Follow the issuer's redirect to the loopback address, and whatever follows."""
    return get(f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], **answer})}")


def get(url: str) -> str:
    """The page, after every redirect."""
    with _OPENER.open(url, timeout=20) as page:
        assert "code=" not in page.url and "state=" not in page.url
        text: str = page.read().decode()
        return text
