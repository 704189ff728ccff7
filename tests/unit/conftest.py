"""Fixtures: an issuer on loopback, a harness for browser logins, and the faults that the event loop reports."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.login_harness import LoginHarness

from authstate.adapters.oauth.issuer import Issuer
from authstate.testing import LoopbackIssuer

# What an example takes says how busy the machine is, and nothing of the code: time is measured in tests/benchmarks.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# What the person who runs the tests has set for the network and for codex is none of the tests' business.
_OF_THE_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OF_CODEX = (
    *("CODEX_HOME", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN", "CODEX_CA_CERTIFICATE", "OPENAI_API_KEY"),
    *("CODEX_AUTHAPI_BASE_URL", "OPENAI_IDENTITY_TOKEN_FILE", "OPENAI_FEDERATION_RULE_ID"),
    *("OPENAI_IDENTITY_TOKEN_SOURCE", "OPENAI_SPIFFE_AUDIENCE"),
)


@pytest.fixture(scope="package", autouse=True)
def environment_of_nobody() -> Iterator[None]:
    """An environment in which nobody set anything: a test that needs something sets it."""
    with pytest.MonkeyPatch.context() as environment:
        for name in (*_OF_THE_NETWORK, *map(str.lower, _OF_THE_NETWORK), *_OF_CODEX):
            environment.delenv(name, raising=False)
        yield


@pytest.fixture
async def faults() -> list[dict[str, Any]]:
    """What the event loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.fixture(scope="package")
def running_issuer(environment_of_nobody: None) -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as issuer:
        yield issuer


@pytest.fixture
def loopback(running_issuer: LoopbackIssuer) -> LoopbackIssuer:
    """A real issuer that behaves."""
    running_issuer.behave("exchange")
    return running_issuer


@pytest.fixture
async def harness(loopback: LoopbackIssuer) -> AsyncIterator[LoginHarness]:
    """Somebody is signed in, and wants to sign in anew."""
    made = LoginHarness(Issuer(loopback.url))
    async with made.engine:
        yield made
