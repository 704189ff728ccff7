"""Where a token goes, and where it does not."""

from typing import Any

import pytest
from support.http_libraries import each_library
from support.numbered_tokens import URL, Backend, NumberedEngine

from authstate.adapters.httpx_auth import EngineAuth


@pytest.mark.parametrize(
    "origin", ["https://backend.example:443/anything", "https://backend.example", "HTTPS://BACKEND.EXAMPLE/"]
)
@pytest.mark.parametrize("port", ["", ":443"])
@each_library
async def test_an_origin_may_name_the_default_port_or_leave_it_out(library: Any, origin: str, port: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(NumberedEngine(), origins=[origin])) as client:
        assert (await client.get(f"https://backend.example{port}/api")).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://backend.example/api",
        "http://backend.example:443/api",
        "https://backend.example:80/",
        "https://backend.example:444/",
        "https://backend.example:8443/",
        "https://example/",
    ],
)
@each_library
async def test_other_origins_get_no_token(library: Any, url: str) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(NumberedEngine(), origins=["https://backend.example:443/anything"])) as client:
        assert (await client.get(url)).status_code == 401
    assert backend.seen == [(None, None)]


@each_library
async def test_a_redirect_to_another_origin_takes_no_token_along_and_its_401_is_not_ours(library: Any) -> None:
    backend, engine = Backend(library, redirect="https://elsewhere.example/"), NumberedEngine()
    async with backend.client(EngineAuth(engine), follow_redirects=True) as client:
        assert (await client.get(URL)).status_code == 401
    assert [token for token, _ in backend.seen] == ["Bearer token-1", None]
    assert engine.recoveries == 0
