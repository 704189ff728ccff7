"""Which requests a sandbox takes: none that a page of another site causes, and none under another name."""

from collections.abc import Sequence
from typing import Final

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a request's body. codex sends the whole conversation."""


def refusal(
    port: int, method: str, path: str, headers: Sequence[tuple[str, str]], *, is_control: bool
) -> tuple[int, str, str] | None:
    """Return the status, the code and the message with which a request is refused. None if it is taken.

    `Host` must be 127.0.0.1 or localhost with this port, so that no page on the web can reach the sandbox under another
    name (DNS rebinding). `Origin`, if there is one, must be the sandbox's own. The control API takes no request that
    the browser calls cross-site. A page of another site may link to the sign-in page, as a front-end does.

    Args:
        port: of the sandbox.
        method: of the request.
        path: of the request, without its query.
        headers: of the request.
        is_control: whether the request is for the control API.
    """

    def values(wanted: str) -> list[str]:
        return [value.strip().lower() for name, value in headers if name.lower() == wanted]

    ours = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}
    hosts = values("host")
    if len(hosts) != 1 or hosts[0] not in ours:
        return 421, "misdirected_request", f"use http://127.0.0.1:{port}: the sandbox has no other name"
    if not set(values("origin")) <= {f"http://{host}" for host in ours}:
        return 403, "forbidden", "a page of another site has sent this request"
    if (is_control or method != "GET") and not set(values("sec-fetch-site")) <= {"none", "same-origin"}:
        return 403, "forbidden", "a page of another site has sent this request"
    if not path.startswith("/"):
        return 400, "invalid_request", "the target of a request must be a path"
    if values("transfer-encoding"):
        return 411, "length_required", "send the body with a Content-Length"
    lengths = values("content-length") or ["0"]
    if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        return 400, "invalid_request", "Content-Length must be one number"
    if len(lengths[0]) > 12 or int(lengths[0]) > MOST_BYTES:
        return 413, "invalid_request", f"the body may have at most {MOST_BYTES} bytes"
    if path.startswith("/control/"):
        return 404, "not_found", "the control API of a sandbox is below /sandbox"
    return None
