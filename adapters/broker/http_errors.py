"""The answers to requests that no endpoint takes, as JSON: another path, another method, another host, and what is no
request at all.
"""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from authstate.adapters.vault.accounts_file import shown_name

JSON_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}

_CODES = {
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.MISDIRECTED_REQUEST: "misdirected_request",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
_MESSAGES = {
    HTTPStatus.BAD_REQUEST: "this is no request of HTTP/1.1",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "the first line and the headers of the request are too large",
    HTTPStatus.FORBIDDEN: "a page in a browser has sent the request, and browsers are no clients of a broker",
    HTTPStatus.NOT_FOUND: "the broker has no such endpoint",
    HTTPStatus.METHOD_NOT_ALLOWED: "the endpoint does not take this method: the header Allow names those that it takes",
    HTTPStatus.MISDIRECTED_REQUEST: "the broker is not reached under this name",
    HTTPStatus.INTERNAL_SERVER_ERROR: "the broker failed: its log says more",
    HTTPStatus.SERVICE_UNAVAILABLE: "the broker has too many clients just now: try again",
}


def error_body(status: int, message: str | None = None) -> bytes:
    """Return the body of an error, in the form of the JSON API.

    Args:
        status: of HTTP.
        message: for a person. By default what the status means.
    """
    code = _CODES.get(HTTPStatus(status), "invalid_request")
    return msgspec.json.encode({"error": {"code": code, "message": message or message_of(status)}}) + b"\n"


def bare_answer(status: int) -> bytes:
    """Return an answer as it is sent, for a connection that is closed before any endpoint gets a request."""
    body = error_body(status)
    headers = {**JSON_HEADERS, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body


def message_of(status: int) -> str:
    """Return what a status means, for a person."""
    known = HTTPStatus(status)
    return _MESSAGES.get(known, known.phrase.lower())


def explain_host(hosts: Sequence[str]) -> str:
    """Return why a request is refused, from its `Host` headers.

    What was sent is untrusted: its beginning is shown, without control characters and without what looks like a token.
    """
    if len(hosts) != 1:
        return f"the request has {len(hosts) or 'no'} headers `Host`: send one"
    return (
        f"this broker is not reached as {shown_name(hosts[0])}: use 127.0.0.1 or localhost, or start `authstate "
        "broker` with --allow-host NAME, without the port"
    )
