"""A login names the client that asked for it to the issuer, and asks for what codex asks for."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from authstate.adapters.oauth.authorization_request import AuthorizationRequest
from authstate.adapters.oauth.issuer import DEFAULT_ORIGINATOR, Issuer
from authstate.adapters.oauth.issuer_http import IssuerResponse
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.secret import Secret

SCOPE = "openid profile email offline_access api.connectors.read api.connectors.invoke"


def asked(issuer: Issuer) -> dict[str, str]:
    query = parse_qs(urlsplit(AuthorizationRequest.new(1455).url(issuer)).query)
    return {name: values[0] for name, values in query.items()}


def test_the_scope_is_that_of_todays_codex() -> None:
    assert asked(Issuer())["scope"] == SCOPE


def test_a_client_is_named() -> None:
    assert asked(Issuer().for_client("codex_vscode"))["originator"] == "codex_vscode"
    assert asked(Issuer().for_client("My Editor 2"))["originator"] == "My Editor 2"


@pytest.mark.parametrize("name", [None, "", " ", "a\nb", "Bücher", "x" * 129, " x", "x "])
def test_a_name_that_fits_in_no_header_names_nobody(name: str | None) -> None:
    assert asked(Issuer().for_client(name))["originator"] == DEFAULT_ORIGINATOR


async def test_a_refresh_names_no_scope_so_that_nothing_is_narrowed() -> None:
    sent: list[dict[str, Any]] = []

    class Http:
        async def post(self, url: str, host: str, body: dict[str, Any], timeout: float, **more: Any) -> IssuerResponse:
            sent.append({name: value.reveal() if isinstance(value, Secret) else value for name, value in body.items()})
            raise InterruptedError

    authority = HttpTokenAuthority("https://issuer.example", "app")
    authority._http = Http()  # type: ignore[assignment]
    with pytest.raises(InterruptedError):
        await authority.refresh(Secret("rt-1"))
    assert sent == [{"client_id": "app", "grant_type": "refresh_token", "refresh_token": "rt-1"}]
