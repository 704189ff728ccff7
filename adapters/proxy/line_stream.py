"""Cuts one direction of a connection into lines, asks about each one, and lets the others pass as they are.

Every line is read to its end before any of it passes. Its beginning proves nothing: of two members of the same name the
last one counts, so the end of a line can turn an answer into an account request. What passes is neither changed nor
copied: lines that pass one after the other stay one piece.

A line is held until its end is known, at most 64 MiB of it. A longer line does not pass.
"""

from collections.abc import Callable, Iterator

LONGEST_HELD = 64 * 1024 * 1024
"""Bytes of one line. A picture in a message makes the longest ones."""

Take = Callable[[], None]
"""Takes a line that does not pass, once those before it have passed."""
Route = Callable[[bytes], Take | None]
"""Takes a whole line with its newline. Returns what takes it; None lets it pass."""
Pass = Callable[[bytes], None]
"""Takes any number of whole lines that pass as they are. The last one of a stream may lack its newline."""


class LineStream:
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
