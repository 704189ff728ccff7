"""The peer of the broker's benchmark: uvicorn with a constant answer. `python -m benchmarks.constant_app PORT`."""

import sys
from typing import Any

import uvicorn

ANSWER = b"x" * 950
"""As long as the answer of the token endpoint."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, and answer."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", lifespan="off")
