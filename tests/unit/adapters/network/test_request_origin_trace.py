"""Which requests of the transport keep the credentials: a table of where they go, for both kinds of client."""

import asyncio
from typing import Any

import httpcore
import httpx
import pytest

from authstate.adapters.network.request_origin import bind_to_origin, bind_to_origin_sync

STARTED = "http11.send_request_headers.started"
HEADERS = [(b"Host", b"api.test"), (b"Authorization", b"Bearer canary"), (b"ChatGPT-Account-ID", b"org-1")]
KEPT = [
    ("GET", "https", "api.test", None, b"/v1"),
    ("OPTIONS", "https", "api.test", None, b"*"),
    ("GET", "http", "proxy.test", 3128, b"https://api.test/v1"),  # a forwarding proxy gets the whole URL
    ("CONNECT", "http", "proxy.test", 3128, b"api.test:443"),  # the headers are what the caller gives the proxy
]
STRIPPED = [
    ("GET", "https", "other.test", None, b"/v1"),
    ("GET", "http", "api.test", None, b"/v1"),
    ("GET", "https", "api.test", 8443, b"/v1"),
    ("OPTIONS", "https", "other.test", None, b"*"),
    ("GET", "http", "proxy.test", 3128, b"https://other.test/v1"),
    ("GET", "https", "api.test", None, b"https://[::1"),  # no URL
    ("GET", "https", "api.test", None, b"https://\xff/"),  # no text
]


def sent(kind: str, event: str, method: str, url: httpcore.URL) -> tuple[list[Any], list[str]]:
    """Report a request to the trace, as httpcore does. Returns its headers, and what the caller's trace heard."""
    heard: list[str] = []

    def note(event: str, info: Any) -> None:
        heard.append(event)

    async def note_async(event: str, info: Any) -> None:
        heard.append(event)

    ours = httpx.Request("GET", "https://api.test/v1", extensions={"trace": note if kind == "sync" else note_async})
    bind = bind_to_origin_sync if kind == "sync" else bind_to_origin
    bind(ours)
    bind(ours)  # as when it is sent again
    theirs = httpcore.Request(method, url, headers=HEADERS)
    done = ours.extensions["trace"](event, {"request": theirs})
    if kind == "async":
        asyncio.run(done)
    return theirs.headers, heard


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("method", "scheme", "host", "port", "target"), [*KEPT, *STRIPPED])
def test_credentials_go_to_their_origin_only(
    kind: str, method: str, scheme: str, host: str, port: int | None, target: bytes
) -> None:
    url = httpcore.URL(scheme=scheme.encode(), host=host.encode(), port=port, target=target)
    headers, heard = sent(kind, STARTED, method, url)
    is_kept = (method, scheme, host, port, target) in KEPT
    assert headers == (HEADERS if is_kept else HEADERS[:1])
    assert heard == [STARTED], "the trace of the caller is called once"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_other_steps_of_a_request_change_nothing(kind: str) -> None:
    elsewhere = httpcore.URL("https://other.test/v1")
    for event in ("http11.send_request_headers.complete", "http11.send_request_body.started"):
        assert sent(kind, event, "GET", elsewhere) == (HEADERS, [event])
