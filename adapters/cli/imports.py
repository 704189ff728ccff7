"""How a program that must answer soon imports what it needs."""

import gc


class unwatched_imports:
    """Lets the garbage collector rest: what imports make stays to the end. A collector that looks through it again and
    again costs a tenth of the time to the first answer.
    """

    def __enter__(self) -> None:
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.freeze()
        gc.enable()
