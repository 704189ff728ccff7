"""A reference model of `EnginePool`: what it does once everything that can happen has happened. No tasks, no waits."""

from collections import OrderedDict
from collections.abc import Iterable

LOOK_AGAIN = 5.0


class Account:
    """What the model knows of one account."""

    def __init__(self) -> None:
        self.slow_store = False
        self.broken = False
        """Its engine cannot be made."""
        self.lent: Lent | None = None
        """Its engine in the pool."""
        self.closing: Lent | None = None
        """Its engine that was taken out of the pool and waits for a refresh."""


class Lent:
    """An engine of the pool: open, or being opened."""

    def __init__(self) -> None:
        self.is_made = False
        self.is_open = False
        self.users: set[int] = set()
        self.is_refreshing = False


class Pool:
    """The model. `users` says what became of each user: waiting, using, done, or the name of an error."""

    def __init__(self, names: str, most_open: int, idle_after: float) -> None:
        self.accounts = {name: Account() for name in names}
        self.most_open = most_open
        self.idle_after = idle_after
        self.now = 0.0
        self.is_closed = False
        self.users: dict[int, str] = {}
        self.idle: OrderedDict[str, float] = OrderedDict()
        self.skipped: dict[str, float] = {}
        self.alarm: float | None = None
        self.opened = self.open_failures = self.evicted = self.refreshed = 0

    # Uses

    def use(self, users: Iterable[int], name: str) -> None:
        """These users ask at the same moment."""
        if self.is_closed:
            self.users |= dict.fromkeys(users, "PoolClosed")
            return
        account = self.accounts[name]
        self.users |= dict.fromkeys(users, "waiting")
        if account.lent is None:
            account.lent = Lent()
            self.shrink()
        account.lent.users.update(users)
        self.idle.pop(name, None)
        self.skipped.pop(name, None)
        self.go_on(name)

    def end(self, user: int, name: str) -> None:
        self.users[user] = "done"
        lent = self.accounts[name].lent
        if lent is not None and user in lent.users:
            lent.users.discard(user)
            self.note_if_idle(name)

    def go_on(self, name: str) -> None:
        """Open the engine of an account as far as nothing holds that up."""
        account = self.accounts[name]
        lent = account.lent
        if lent is None or account.closing is not None:
            return
        if not lent.is_made and account.broken:
            self.open_failures += 1
            account.lent = None
            self.users |= dict.fromkeys(lent.users, "ValueError")
            return
        lent.is_made = True
        if not lent.is_open and not account.slow_store:
            lent.is_open = True
            self.opened += 1
            self.note_if_idle(name)
        if lent.is_open:
            self.users |= dict.fromkeys(lent.users, "using")

    # Idle engines

    def note_if_idle(self, name: str) -> None:
        lent = self.accounts[name].lent
        if lent is not None and lent.is_open and not lent.users:
            self.idle[name] = self.now
            self.shrink()

    @property
    def size(self) -> int:
        return sum(account.lent is not None for account in self.accounts.values())

    def shrink(self) -> None:
        for name, since in tuple(self.idle.items()):
            if self.size <= self.most_open and self.now < since + self.idle_after:
                self.set_alarm(since + self.idle_after)
                break
            lent = self.accounts[name].lent
            assert lent is not None and lent.is_open and not lent.users
            del self.idle[name]
            if lent.is_refreshing:
                self.skipped[name] = since
            else:
                self.accounts[name].lent = None
                self.evicted += 1
        if self.skipped:
            self.set_alarm(self.now + LOOK_AGAIN)

    def set_alarm(self, moment: float) -> None:
        self.alarm = moment if self.alarm is None else min(self.alarm, moment)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.alarm is not None and self.alarm <= end:
            self.now, self.alarm = self.alarm, None
            self.idle = OrderedDict({**self.skipped, **self.idle})
            self.skipped = {}
            self.shrink()
        self.now = end

    # Refreshes

    def begin_refresh(self, name: str) -> None:
        lent = self.accounts[name].lent
        assert lent is not None
        lent.is_refreshing = True

    def end_refresh(self, name: str) -> None:
        account = self.accounts[name]
        busy = account.closing or account.lent
        assert busy is not None and busy.is_refreshing
        busy.is_refreshing = False
        self.refreshed += 1
        account.closing = None
        self.go_on(name)

    # Ends

    def drop(self, name: str) -> None:
        account = self.accounts[name]
        lent = account.lent
        if lent is None:
            return
        account.lent = None
        self.idle.pop(name, None)
        self.skipped.pop(name, None)
        if lent.is_refreshing:
            account.closing = lent
        if lent.is_open:
            return  # its users have an engine that is closed
        if lent.users:
            self.use(lent.users, name)

    def close(self) -> None:
        self.is_closed = True
        for name in self.accounts:
            self.drop(name)
        self.alarm = None
