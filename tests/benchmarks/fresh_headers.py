"""The headers of a request while the token is fresh: the path that every request takes."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import time
from typing import Any

from benchmarks.comparison import Comparison, compare, microseconds_of, repeated

from authstate import AuthEngine, MemoryStore, SyncAuthEngine
from authstate.testing import FakeAuthority, make_tokens

NAMES = ("headers with a fresh token",)
_TOKEN = make_tokens().access_token.reveal()
_URL = "https://api.example/v1/responses"
_SCOPE = "https://api.example/.default"
Sampler = Callable[[], float]


def measure(rounds: int) -> list[Comparison]:
    """Compare how long it takes from "a request is to be sent" to its headers."""
    loop = asyncio.new_event_loop()
    try:
        engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority())
        loop.run_until_complete(engine.start())
        contenders = {
            "authstate, async": lambda: _async(loop, engine),
            "authstate, fresh_authorization()": lambda: _fresh(engine),
            "authstate, SyncAuthEngine": _sync,
            "google-auth, before_request": _google,
            "MSAL, acquire_token_silent": _msal,
            "azure-identity, get_token": _azure,
            "Authlib, OAuth2Auth": _authlib,
            "a static header": lambda: microseconds_of(repeated(lambda: {"Authorization": f"Bearer {_TOKEN}"})),
        }
        compared = compare(NAMES[0], "us", contenders, rounds, ours="authstate, async")
        loop.run_until_complete(engine.close())
        return [compared]
    finally:
        loop.close()


def _async(loop: asyncio.AbstractEventLoop, engine: AuthEngine) -> Sampler:
    async def ask(calls: int) -> None:
        for _ in range(calls):
            (await engine.authorization()).headers()

    return microseconds_of(lambda calls: loop.run_until_complete(ask(calls)))


def _fresh(engine: AuthEngine) -> Sampler:
    def ask() -> dict[str, str]:
        authorization = engine.fresh_authorization()
        assert authorization is not None
        return authorization.headers()

    return microseconds_of(repeated(ask))


def _sync() -> Sampler:
    engine = SyncAuthEngine(AuthEngine(MemoryStore(make_tokens()), FakeAuthority()))
    engine.start()
    return microseconds_of(repeated(lambda: engine.authorization().headers()))


def _google() -> Sampler:
    kind = import_module("google.oauth2.credentials").Credentials
    expiry = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    credentials = kind(token=_TOKEN, expiry=expiry)
    return microseconds_of(repeated(lambda: credentials.before_request(None, "GET", _URL, {})))


class _Answer:
    """An answer of Microsoft's issuer, for MSAL."""

    status_code = 200

    def __init__(self, body: dict[str, Any]) -> None:
        self.text = json.dumps(body)
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """It is no error."""


class _MicrosoftIssuer:
    """The HTTP client of MSAL: it answers at once, without a network."""

    def get(self, url: str, **_: Any) -> _Answer:
        base = "https://login.microsoftonline.com/tenant"
        return _Answer(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            }
        )

    def post(self, url: str, **_: Any) -> _Answer:
        now = int(time())
        claims = {"aud": "client", "iss": "issuer", "sub": "person", "exp": now + 3600, "iat": now, "tid": "tenant"}
        claims |= {"preferred_username": "person@example.com", "oid": "person"}
        return _Answer(
            {
                "token_type": "Bearer",
                "access_token": _TOKEN,
                "refresh_token": "refresh",
                "expires_in": 3600,
                "scope": _SCOPE,
                "id_token": f"{_base64({'alg': 'none'})}.{_base64(claims)}.",
                "client_info": _base64({"uid": "person", "utid": "tenant"}),
            }
        )

    def close(self) -> None:
        """Nothing is open."""


def _base64(body: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")


def _msal() -> Sampler:
    kind = import_module("msal").PublicClientApplication
    authority = "https://login.microsoftonline.com/tenant"
    client = kind("client", authority=authority, http_client=_MicrosoftIssuer(), instance_discovery=False)
    client.acquire_token_by_refresh_token("refresh", [_SCOPE])
    account = client.get_accounts()[0]

    def ask() -> dict[str, str]:
        return {"Authorization": f"Bearer {client.acquire_token_silent([_SCOPE], account)['access_token']}"}

    ask()
    return microseconds_of(repeated(ask), 200)


def _azure() -> Sampler:
    """Its credential of a service, with the token in its cache: the others need a person or a machine of Azure."""
    kind = import_module("azure.identity").ClientSecretCredential
    credential = kind("tenant", "client", "secret", disable_instance_discovery=True)
    application = import_module("msal").ConfidentialClientApplication
    cached = application(
        "client",
        "secret",
        authority="https://login.microsoftonline.com/tenant",
        http_client=_MicrosoftIssuer(),
        instance_discovery=False,
    )
    cached.acquire_token_for_client([_SCOPE])
    credential._get_app = lambda **_: cached  # where it would ask the issuer

    def ask() -> dict[str, str]:
        return {"Authorization": f"Bearer {credential.get_token(_SCOPE).token}"}

    ask()
    return microseconds_of(repeated(ask), 200)


def _authlib() -> Sampler:
    kind = import_module("authlib.integrations.httpx_client").OAuth2Client
    token = {"access_token": _TOKEN, "token_type": "bearer", "expires_at": int(time()) + 3600}
    client = kind(client_id="client", token=token)

    def ask() -> Any:
        client.ensure_active_token(client.token)
        return client.token_auth.prepare(_URL, {}, "")

    ask()
    return microseconds_of(repeated(ask))
