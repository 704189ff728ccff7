"""Runs a service of the documentation in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest


@asynccontextmanager
async def serving(program: str, page: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[httpx.AsyncClient]:
    """Run the program of a page, which makes `app`, with its lifespan. Give a client of it, which has it as `app`.

    At the end, nothing may have gone wrong in the event loop.
    """
    names: dict[str, Any] = {"__name__": page.removesuffix(".md")}
    exec(compile(program, page, "exec"), names)
    app = names["app"]
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        client.app = app  # type: ignore[attr-defined]
        yield client
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
