"""What happened in a history, for a person who looks for the cause."""


class Timeline:
    """Lines of step, virtual time, process and what happened. Cheap to write: it is put into words when read."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, float, str, str]] = []

    def add(self, step: int, time: float, who: str, what: str) -> None:
        """Append a line."""
        self._lines.append((step, time, who, what))

    def __len__(self) -> int:
        return len(self._lines)

    def render(self, last: int = 400) -> str:
        """The last lines as a table."""
        shown = self._lines[-last:]
        left_out = len(self._lines) - len(shown)
        head = [f"... {left_out} lines before"] if left_out else []
        rows = [f"{step:>6} {time:>11.4f} s  {who:<8} {what}" for step, time, who, what in shown]
        return "\n".join([*head, f"{'step':>6} {'time':>13}  {'process':<8} what", *rows])
