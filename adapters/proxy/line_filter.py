"""Cuts one direction of a connection into lines, has each one looked at, and lets the rest pass as it is.

Every line is read, and to its end, before any of it passes. What its beginning says proves nothing: of two members of
the same name the last one counts, so the end of a line can make an account request of an answer. What passes is not
changed and not copied: lines that pass one after the other stay one piece.

A line is held until its end is known, at most 64 MiB of it. A longer one does not pass.
"""

import json
from collections.abc import Callable, Iterator

from authstate.adapters.jsonrpc.framing import Envelope, RpcError, read_line

LONGEST_HELD = 64 * 1024 * 1024
"""Bytes of one line. A picture in a message makes the longest ones."""
ESCAPE = b"\\u"
"""Any letter can be written with it."""

Take = Callable[[], None]
"""Does what is to be done with a line that does not pass, once those before it have passed."""
Route = Callable[[bytes], Take | None]
"""Looks at a whole line with its newline; returns what takes it. None: it passes."""
Pass = Callable[[bytes], None]
"""Takes any number of whole lines that pass as they are. The last one of a stream may lack its newline."""


class LineFilter:
    """One direction of a connection.

    Args:
        route: asked about each line, in order with what passes.
        let_pass: takes everything else, in order.
        too_long: told of each line of more than `longest` bytes, which is dropped to its end.
        longest: in bytes, with the newline.
    """

    def __init__(
        self, route: Route, let_pass: Pass, too_long: Callable[[], None], *, longest: int = LONGEST_HELD
    ) -> None:
        self._route = route
        self._let_pass = let_pass
        self._too_long = too_long
        self._longest = longest
        self._held: list[bytes] = []
        self._size = 0
        self._is_dropping = False

    @property
    def held(self) -> int:
        """How many bytes of an unfinished line are held."""
        return self._size

    def feed(self, data: bytes) -> None:
        """Take what came in."""
        end = data.rfind(b"\n") + 1
        begin = 0
        if end and (self._held or self._is_dropping):
            begin = data.index(b"\n") + 1
            self._end_of_line(data[:begin])
        if begin < end:
            self._sift(data[begin:end] if begin or end < len(data) else data)
        if end < len(data):
            self._begin_of_line(data[end:] if end else data)

    def finish(self) -> None:
        """The stream is over. Some readers take its last line without a newline, so it is looked at like any other."""
        if not self._held:
            return
        line = b"".join(self._forget())
        if take := self._route(line + b"\n"):
            take()
        else:
            self._let_pass(line)

    def _begin_of_line(self, data: bytes) -> None:
        if self._is_dropping:
            return
        self._held.append(data)
        self._size += len(data)
        if self._size > self._longest:
            self._forget()
            self._is_dropping = True
            self._too_long()

    def _end_of_line(self, data: bytes) -> None:
        if not self._is_dropping and self._size + len(data) > self._longest:
            self._begin_of_line(data)
        if self._is_dropping:
            self._is_dropping = False
        else:
            self._sift(b"".join((*self._forget(), data)))

    def _forget(self) -> list[bytes]:
        held, self._held, self._size = self._held, [], 0
        return held

    def _sift(self, lines: bytes) -> None:
        """Pass whole lines, but for those that the route takes."""
        begin = 0  # of the run of lines that pass
        for start, end in _lines(lines):
            if take := self._route(lines[start:end]):
                if begin < start:
                    self._let_pass(lines[begin:start])
                begin = end
                take()
        if begin < len(lines):
            self._let_pass(lines[begin:] if begin else lines)


def _lines(lines: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(lines):
        end = lines.index(b"\n", start) + 1
        yield start, end
        start = end


def envelope_of(line: bytes) -> Envelope | None:
    """What a line says; None for what is no JSON object in UTF-8, or has a method that is no string."""
    try:
        return read_line(line)
    except RpcError:
        return None


def is_ambiguous(line: bytes) -> bool:
    """Whether readers may differ about a line that can be read: it has two methods, ids, results or errors.

    Here and in codex the last one counts, elsewhere the first one may.
    """
    if line.count(b'"method"') < 2 and ESCAPE not in line:
        return False
    try:
        pairs = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return True
    names = [name for name, _ in pairs]
    return any(names.count(name) > 1 for name in ("id", "method", "params", "result", "error"))
