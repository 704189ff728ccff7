"""Which lines of a stream are about accounts, found with as little reading as can be.

Most of what passes between a front-end and its app-server is no business of ours, so a `Sieve` looks at whole chunks
first: a chunk in which no telling word occurs passes as it is, in one piece, and is never cut into lines. Where a word
occurs, only the lines that hold it are decoded. The cheap look may suspect too much, never too little: a method can be
written with escapes. So a line with a `\\u` is suspected as well, and a slash may have a backslash before it, as Swift
and PHP write it by default.

A line that is longer than a chunk is not kept for its end when its beginning tells that it is none of ours. One that is
too long to be kept passes, unless its beginning tells that it is ours.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec

from authstate.adapters.jsonrpc_lines import LONGEST_LINE, Envelope, RpcError, read_line

ESCAPE = b"\\u"
_PEEK = 1024  # bytes of a line after which its beginning is read

Route = Callable[[bytes], bool]
"""Takes a whole line with its newline; tells whether it took it. One that it did not take passes."""
Pass = Callable[[bytes], None]
"""Takes bytes that pass as they are: any number of lines, or a part of one."""
TooLong = Callable[[bytes], bool]
"""Takes the beginning of a line that is too long to be held; tells whether it took it, and the rest with it."""


class Sieve:
    """One direction of a connection.

    Args:
        words: a line that holds none of them, and no escape, is none of ours.
        route: asked about each line that may be ours, in order with what passes.
        let_pass: takes everything else, in order.
        too_long: asked about a line of more than 16 MiB.
    """

    def __init__(self, words: Sequence[bytes], route: Route, let_pass: Pass, too_long: TooLong) -> None:
        escaped = [word.replace(b"/", b"\\/") for word in words if b"/" in word]
        self.words = [*words, *escaped, ESCAPE]
        self.look_at_all = False
        """Ask about every line, whatever it holds."""
        self._route = route
        self._let_pass = let_pass
        self._too_long = too_long
        self._held: list[bytes] = []
        self._size = 0
        self._rest: Pass | None = None  # takes the rest of a line that is not held

    @property
    def held(self) -> int:
        """How many bytes of an unfinished line are held."""
        return self._size

    def feed(self, data: bytes) -> None:
        """Take what came in."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._begin_of_line(data)
            return
        begin = 0
        if self._rest is not None:
            begin = data.index(b"\n") + 1
            self._rest(data[:begin])
            self._rest = None
        elif self._held:
            begin = data.index(b"\n") + 1
            self._sift(b"".join((*self._forget(), data[:begin])))
        if begin < end:
            self._sift(data[begin:end] if begin or end < len(data) else data)
        if end < len(data):
            self._begin_of_line(data[end:])

    def finish(self) -> None:
        """The stream is over: what is held of an unfinished line passes."""
        if self._held:
            self._let_pass(b"".join(self._forget()))

    def _begin_of_line(self, data: bytes) -> None:
        if self._rest is not None:
            self._rest(data)
            return
        self._held.append(data)
        peeked = self._size > _PEEK
        self._size += len(data)
        if self._size > LONGEST_LINE:
            beginning = b"".join(self._forget())
            self._rest = _drop if self._too_long(beginning) else self._let_pass
            self._rest(beginning)
        elif self._size > _PEEK and not peeked and self._passes(b"".join(self._held)):
            self._rest = self._let_pass
            self._let_pass(b"".join(self._forget()))

    def _passes(self, beginning: bytes) -> bool:
        return not self.look_at_all and tells_that_it_passes(beginning, self.words)

    def _forget(self) -> list[bytes]:
        held, self._held, self._size = self._held, [], 0
        return held

    def _sift(self, lines: bytes) -> None:
        """Pass whole lines, but for those that the route takes."""
        if not self.look_at_all and not self._suspects(lines):
            self._let_pass(lines)
            return
        begin = 0  # of the run of lines that pass
        for start, end in _lines(lines):
            line = lines[start:end]
            if not self.look_at_all and not self._suspects(line):
                continue
            if begin < start:
                self._let_pass(lines[begin:start])
            begin = end if self._route(line) else start
        if begin < len(lines):
            self._let_pass(lines[begin:])

    def _suspects(self, lines: bytes) -> bool:
        return any(word in lines for word in self.words)


def _drop(data: bytes) -> None:
    return None


def _lines(lines: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(lines):
        end = lines.index(b"\n", start) + 1
        yield start, end
        start = end


def envelope_of(line: bytes) -> Envelope | None:
    """What a line says; None for what is no JSON-RPC message: the other side may make of it what it likes."""
    try:
        return read_line(line)
    except RpcError:
        return None


def tells_that_it_passes(beginning: bytes, words: Sequence[bytes]) -> bool:
    """Whether the beginning of a long line is enough to know that the line is none of ours.

    It is when the method, or the id of an answer, comes before anything that has no end yet.
    """
    for name, value in _members(beginning):
        if name == "method":
            return not any(word in value for word in words)
        if name == "id" and any(word in value for word in words):
            return False
        if name in ("result", "error"):
            return True
    return False


def method_in(beginning: bytes) -> str | None:
    """The method of a long line, if its beginning tells it."""
    for name, value in _members(beginning):
        if name == "method":
            with suppress(ValueError):
                return msgspec.json.decode(value, type=str)
    return None


def _members(beginning: bytes) -> Iterator[tuple[str, bytes]]:
    """The members at the beginning of an object that is cut somewhere: each name, and the value as it is written.

    Ends before a value that is no string, number or literal, but for a `result` or an `error`: an answer whose id came
    before is known. One whose id comes after is not, and is not given.
    """
    place = _skip(beginning, 0, b" \t\r{")
    seen_id = False
    while place < len(beginning):
        name, place = _scalar(beginning, place)
        place = _skip(beginning, place, b" \t\r:")
        if name[:1] != b'"' or ESCAPE[:1] in name or place >= len(beginning):
            return
        plain = name[1:-1].decode("utf-8", "replace")
        if beginning[place : place + 1] in (b"{", b"["):
            if plain in ("result", "error") and seen_id:
                yield plain, b""
            return
        value, place = _scalar(beginning, place)
        if place >= len(beginning) or (plain in ("result", "error") and not seen_id):
            return
        seen_id = seen_id or plain == "id"
        yield plain, value
        place = _skip(beginning, place, b" \t\r,")


def _skip(data: bytes, place: int, characters: bytes) -> int:
    while place < len(data) and data[place] in characters:
        place += 1
    return place


def _scalar(data: bytes, place: int) -> tuple[bytes, int]:
    """A string, number or literal that begins here, and the place after it: the end of the data when it is cut."""
    if data[place : place + 1] == b'"':
        end = place + 1
        while (end := data.find(b'"', end)) >= 0:
            behind = end - 1
            while data[behind] == 0x5C:
                behind -= 1
            end += 1
            if (end - behind) % 2 == 0:
                return data[place:end], end
        return data[place:], len(data)
    end = place
    while end < len(data) and data[end] not in b",}] \t\r:":
        end += 1
    return data[place:end], end
