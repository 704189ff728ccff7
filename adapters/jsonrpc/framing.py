"""The lines of JSON-RPC: splits a stream into lines, and parses a line. Nothing here waits or writes."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import Confidential
from authstate.engine.model.errors import AuthstateError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603
OVERLOADED = -32001

LONGEST_LINE = 16 * 1024 * 1024

ABSENT = Raw(b"")
"""A missing member. Compare by identity."""
NULL = b"null"


class RpcError(AuthstateError):
    """A handler raises it to refuse a request. The other side receives the code and the message.

    Args:
        code: one of the codes above, or the application's own.
        message: for the person who reads it. It goes over the wire, so it must not contain a secret.
        data: anything that msgspec can encode; left out if None.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class _RemoteMessage(Confidential, frozen=True):
    """The message of the other side's error. It may contain anything."""

    text: str


class RemoteError(AuthstateError):
    """The other side answered our request with an error. `str` leaves out its message, which may contain anything."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the other side answered with error {code}")
        self.code = code
        self._message = _RemoteMessage(message)

    @property
    def message(self) -> str:
        """The message of the other side."""
        return self._message.text


class Envelope(msgspec.Struct, gc=False):
    """One message. A missing member is `ABSENT`; a missing method is None."""

    id: Raw = ABSENT
    method: str | None = None
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT


class ErrorBody(msgspec.Struct):
    """The `error` of a response, without the members that are not used."""

    code: int
    message: str


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_any = msgspec.json.Decoder(Raw).decode
_decode_error = msgspec.json.Decoder(ErrorBody).decode
_NOT_JSON = "the line is not JSON in UTF-8, or it is nested too deeply"


class LineSplitter:
    """Splits a stream of bytes into lines, in time linear in the length of the stream.

    Args:
        limit: the length of the longest line in bytes, without its newline.
    """

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._is_skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the lines that are complete now. None stands for a line that is too long, as soon as that is known."""
        *ends, rest = data.split(b"\n")
        lines: list[bytes | None] = []
        for end in ends:
            if self._is_skipping:
                self._is_skipping = False
            elif self._held + len(end) > self._limit:
                lines.append(None)
            elif self._parts:
                lines.append(b"".join((*self._parts, end)))
            else:
                lines.append(end)
            self._clear()
        if rest and not self._is_skipping:
            self._held += len(rest)
            self._parts.append(rest)
            if self._held > self._limit:
                self._clear()
                self._is_skipping = True
                lines.append(None)
        return lines

    def rest(self) -> bytes:
        """Return what came after the last newline. Call it at the end of the stream."""
        line = b"".join(self._parts)
        self._clear()
        return line

    def _clear(self) -> None:
        if self._held:
            self._parts = []
            self._held = 0


def read_line(line: bytes) -> Envelope:
    """Parse a line.

    Raises:
        RpcError: PARSE_ERROR or INVALID_REQUEST. The line has no id to answer.
    """
    try:
        if not line.isascii():
            line.decode()
        return _decode_envelope(line)
    except msgspec.ValidationError:
        pass
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, _NOT_JSON) from None
    # It is not an envelope. It may not be JSON either, because msgspec stops at the first error.
    try:
        _decode_any(line)
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, _NOT_JSON) from None
    raise RpcError(INVALID_REQUEST, "the message must be an object with a `method` that is a string")


def encode_answer(id_: bytes, result: object) -> bytes:
    """Return the line that answers a request."""
    return b'{"id":' + id_ + b',"result":' + encode(result) + b"}\n"


def is_id(raw: bytes) -> bool:
    """Return whether valid JSON is a string or an integer, without fraction and exponent."""
    return raw[:1] == b'"' or raw.removeprefix(b"-").isdigit()


def remote_error(raw: Raw) -> RemoteError:
    """Return the error of a response."""
    try:
        body = _decode_error(raw)
    except (ValueError, RecursionError):
        return RemoteError(0, "an error of an unknown form")
    return RemoteError(body.code, body.message)
