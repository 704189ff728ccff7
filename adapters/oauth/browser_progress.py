"""How far a browser login is: who has come back, and whether a browser is still to be shown how it ended.

engine/machines/login_attempt.py says whether somebody is signed in. This table is about the browser.
"""

import asyncio
from typing import Final

from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.machines.words import IGNORED, Words

BROWSER_LOGIN_TABLE: Final = Table(
    name="browser_login",
    title="Browser login",
    states=("waiting", "exchanging", "unattended", "settled", "ended", "closed"),
    initial="waiting",
    rows=(
        Row("browser_returned", ("waiting",), "exchanging", "the browser brought the issuer's answer and waits"),
        Row("address_pasted", ("waiting",), "unattended", "a person pasted the address: no browser waits"),
        Row("attempt_ended", ("waiting",), "ended", "the attempt ended before anybody came back"),
        Row("port_wanted", ("exchanging",), "unattended", "another login asked for the port: no page is shown"),
        Row("settled", ("exchanging",), "settled", "the attempt is over: the browser is sent to the last page"),
        Row("settled", ("unattended",), "closed", "the attempt is over, and no browser waits"),
        Row("page_shown", ("settled",), "closed", "the browser fetched the last page"),
        Row("port_wanted", ("settled",), "closed", "another login asked for the port"),
        Row("linger_over", ("settled",), "closed", "the browser did not fetch the last page in time"),
    ),
)

BROWSER_LOGIN_WORDS: Final = Words(
    states={
        "waiting": "Nobody has come back from the issuer yet.",
        "exchanging": "A browser came back and waits while the code is exchanged.",
        "unattended": "The code is exchanged, and no browser waits for the outcome.",
        "settled": "The outcome is known, and the browser is about to fetch the last page.",
        "ended": "The attempt was over before anybody came back.",
        "closed": "The outcome was shown, or no browser waits for it any more.",
    },
    missing=IGNORED,
    timeouts={"settled": "the browser has 3 seconds to fetch the last page; then `linger_over`"},
)


class BrowserProgress:
    """The state of one browser login. `state` is set by the table alone."""

    def __init__(self) -> None:
        self.state: str = BROWSER_LOGIN_TABLE.initial
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether the outcome of the login is known."""
        return self.state in ("settled", "ended", "closed")

    def fire(self, trigger: str) -> bool:
        """Apply a trigger. Returns whether the table has a row for it; where it has none, nothing happens."""
        if BROWSER_LOGIN_TABLE.target(self.state, trigger) is None:
            return False
        shared_machine(BROWSER_LOGIN_TABLE).fire(self, trigger)
        self._changed.set()
        return True

    async def until_over(self) -> None:
        """Return once the outcome of the login is known. Cancellation ends the wait only."""
        while not self.is_over:
            self._changed.clear()
            await self._changed.wait()

    async def until_shown(self, linger: float) -> None:
        """Wait for the browser to fetch the last page, at most `linger` seconds. Then the login is closed."""
        try:
            async with asyncio.timeout(linger):
                while self.state == "settled":
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self.fire("linger_over")
