"""Cuts one direction of a connection into lines, asks about each one, and lets the others pass as they are.

Every line is read to its end before any of it passes. Its beginning proves nothing: of two members of the same name the
last one counts, so the end of a line can turn an answer into an account request. What passes is neither changed nor
copied: lines that pass one after the other stay one piece.

A line is held until its end is known, at most 64 MiB of it. A longer line does not pass.
"""

import json
from collections.abc import Callable, Iterator

import msgspec

LONGEST_HELD = 64 * 1024 * 1024
"""Bytes of one line. A picture in a message makes the longest ones."""
ESCAPE = b"\\u"
"""Any character can be written with it."""
_MEMBERS = ("id", "method", "params", "result", "error")
_WRITTEN = tuple(f'"{name}"'.encode() for name in _MEMBERS)

Take = Callable[[], None]
"""Takes a line that does not pass, once those before it have passed."""
Route = Callable[[bytes], Take | None]
"""Takes a whole line with its newline. Returns what takes it; None lets it pass."""
Pass = Callable[[bytes], None]
"""Takes any number of whole lines that pass as they are. The last one of a stream may lack its newline."""


class LineSplitter:
    """One direction of a connection.

    Args:
        route: decides about each line, in order with what passes.
        let_pass: takes everything else, in order.
        too_long: called for each line of more than `longest` bytes, which is dropped to its end.
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
        """Take bytes that came in."""
        end = data.rfind(b"\n") + 1
        begin = 0
        if end and (self._held or self._is_dropping):
            begin = data.index(b"\n") + 1
            self._end_of_line(data[:begin])
        if begin < end:
            self._filter(data[begin:end] if begin or end < len(data) else data)
        if end < len(data):
            self._begin_of_line(data[end:] if end else data)

    def finish(self) -> None:
        """The stream is over. Some readers accept a last line without a newline, so the route decides about it, too."""
        if not self._held:
            return
        line = b"".join(self._take_held())
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
            self._take_held()
            self._is_dropping = True
            self._too_long()

    def _end_of_line(self, data: bytes) -> None:
        if not self._is_dropping and self._size + len(data) > self._longest:
            self._begin_of_line(data)
        if self._is_dropping:
            self._is_dropping = False
        else:
            self._filter(b"".join((*self._take_held(), data)))

    def _take_held(self) -> list[bytes]:
        held, self._held, self._size = self._held, [], 0
        return held

    def _filter(self, lines: bytes) -> None:
        """Pass whole lines, except for those that the route takes."""
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


def is_ambiguous(line: bytes) -> bool:
    """Whether two readers may read a valid line differently: it has two methods, ids, params, results or errors.

    Here and in codex the last one counts; in other readers the first one may.
    """
    if ESCAPE not in line and all(line.count(name) < 2 for name in _WRITTEN):
        return False  # the names occur once, anywhere in the line
    if _is_sum_of_members(line):
        return False
    try:
        pairs = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return True
    names = [name for name, _ in pairs]
    return any(names.count(name) > 1 for name in _MEMBERS)


def _is_sum_of_members(line: bytes) -> bool:
    """Whether the members that a reader keeps make up the whole line: then it dropped none. False may be wrong.

    A member that was dropped, white space, and a name that is written with escapes make a line longer than this sum.
    Most lines have none of these, and are not parsed a second time.
    """
    try:
        members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False
    return len(line.rstrip()) == 1 + sum(len(name.encode()) + len(bytes(value)) + 4 for name, value in members.items())
