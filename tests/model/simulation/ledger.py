"""The invariants. The ledger hears of everything that matters, and notes every promise that is
broken. It raises nothing, because what is tested might catch it; the world stops at the first one."""

from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from model.simulation.scheduler import Runner
from model.simulation.virtual_disk import claims_in

from authstate.adapters.stores.auth_json_format import decode
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    StoreUnreadable,
)
from authstate.engine.model.secret import Secret


class Violation(AssertionError):
    """A promise was broken. The text says which."""


class Fate(StrEnum):
    """What became of the answer for which a refresh token was spent."""

    LIVE = "not spent"
    UNDERWAY = "underway, not stored yet"
    STORED = "stored"
    LOST_BY_NETWORK = "lost by network after the issuer saw it"
    CRASHED_BEFORE_ANSWER = "crash while the answer was on its way"
    CRASHED_BEFORE_RENAME = "crash between the answer and the rename"
    POWER_BEFORE_SYNC = "power cut between the rename and the sync of the folder"
    REFUSED_BY_DISK = "the disk took no new tokens"
    GRACE_RAN_OUT = "the end of the program waited its whole grace"
    HELD_TOO_LONG = "its holder paused for longer than its hold"
    FAILED_OVER = "lost with a server that failed"


LOSSES = frozenset(Fate) - {Fate.LIVE, Fate.UNDERWAY, Fate.STORED}
"""After one of these, and only then, the next use of the token may be refused."""


_NEVER_AGAIN = frozenset({RefreshClaimState.SPENT, RefreshClaimState.DEAD})


class Grant:
    """One refresh token, its access token, and what became of it."""

    def __init__(self, token: str, login: int, number: int, account_id: str, access_token: str) -> None:
        self.token = token
        self.login = login
        self.number = number
        self.account_id = account_id
        self.access_token = access_token
        self.stored_beside = access_token
        """The access token beside it in auth.json: an older one, if the issuer answered without one."""
        self.fate = Fate.LIVE
        self.revoked = False
        self.spender: Runner | None = None
        self.successor = ""
        self.answered = False
        self.was_lost = False

    def spend(self, runner: Runner, new: ChatgptTokens) -> None:
        """It is used up; `new` are the tokens that were given for it."""
        self.fate = Fate.UNDERWAY
        self.spender = runner
        self.successor = new.refresh_token.reveal()

    def snapshot(self) -> tuple[object, ...]:
        """All of it as one value."""
        spender = self.spender.name if self.spender else None
        return (self.token, self.fate, self.revoked, spender, self.successor, self.answered, self.was_lost)


class Ledger:
    """Everything that was promised, and what it is checked against.

    Args:
        note: writes to the timeline, in the name of a process.
    """

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.grants: dict[str, Grant] = {}
        self.refused_access: set[str] = set()
        """Access tokens that the backend answers with 401."""
        self.disk_failed = False
        """Whether a fault of the disk was injected at all."""
        self.ended: set[int] = set()
        """Logins that were signed out or replaced."""
        self._note = note
        self._visible: set[str] = set()
        self._durable: set[str] = set()
        self._durable_now: bytes | None = None
        self._dead_in: set[tuple[Runner, str]] = set()
        self._claims: dict[str, RefreshClaim] = {}
        self._doubted: set[str] = set()
        """Tokens that were claimed again after a doubt."""
        self._repeats: Counter[tuple[Runner, str]] = Counter()
        """For each process and token, within one claim: 1 once an answer was lost, and one more for each send after."""
        self._read: dict[bytes, Credentials | None] = {}

    def broken(self, promise: str) -> None:
        """A promise was broken."""
        self.violations.append(promise)
        self._note("ledger", f"VIOLATION: {promise}")

    def snapshot(self) -> tuple[object, ...]:
        """All that a later promise depends on, as one value: equal values are equal ledgers."""
        dead = frozenset((runner.name, token) for runner, token in self._dead_in)
        sets = (self.ended, self.refused_access, self._visible, self._durable)
        grants = tuple(grant.snapshot() for grant in self.grants.values())
        repeats = frozenset((runner.name, token, count) for (runner, token), count in self._repeats.items() if count)
        doubts = (frozenset(self._doubted), repeats)
        return (grants, dead, *(frozenset(part) for part in sets), *doubts, self._durable_now, self.disk_failed)

    # The issuer

    def issued(self, grant: Grant) -> None:
        """The issuer gave a new refresh token."""
        self.grants[grant.token] = grant

    def sent(self, runner: Runner, token: str, *, has_cause: bool, is_usable: bool) -> None:
        """A process sends a refresh token: for a cause, once it is claimed, and never one that is known to be dead.

        Args:
            is_usable: it has an access token beside it that is good to use: then a doubt is left alone.
        """
        self.counts["requests"] += 1
        claim = self._claims.get(fingerprint_of(Secret(token)))
        if claim is None or claim.state is not RefreshClaimState.CLAIMED:
            self.broken(f"{runner.name} sends {token}, which nobody claimed")
        elif token in self._doubted and is_usable and runner.alive:
            self.broken(f"{runner.name} sends {token} again, which may be spent, and its access token is usable")
        if self._repeats[runner, token]:
            self._repeats[runner, token] += 1
        if self._repeats[runner, token] > 2:
            self.broken(f"{runner.name} repeats {token} a second time after a lost answer")
        if not has_cause:
            self.broken(f"{runner.name} spends {token}, and nobody needs newer tokens")
        if (runner, token) in self._dead_in:
            self.broken(f"{runner.name} sends {token} again, which was refused for good before")

    def arrived(self, runner: Runner, token: str, *, is_late: bool) -> Grant | None:
        """A refresh token reached the issuer. Returns it if it works; None when it is refused, and may be."""
        grant = self.grants[token]
        if not grant.revoked and grant.fate is Fate.LIVE:
            self.counts["refreshes"] += 1
            return grant
        if is_late or not runner.alive:
            self.counts["requests that came too late to matter"] += 1
        elif grant.fate in LOSSES:
            self.counts[f"refused after: {grant.fate}"] += 1
        elif grant.revoked:
            self.broken(f"{runner.name} sends {token}, which was signed out or replaced under the lock")
        else:
            by = grant.spender.name if grant.spender else "nobody"
            self.broken(f"{runner.name} sends {token}, which {by} spent ({grant.fate}): refresh token used twice")
        return None

    def why_dead(self, token: str) -> RefreshDeadReason:
        """What the issuer says of a token that does not work."""
        return RefreshDeadReason.REVOKED if self.grants[token].revoked else RefreshDeadReason.EXHAUSTED

    def claimed(self, runner: Runner, before: bytes, after: bytes) -> None:
        """What is known of refresh tokens that were sent changed. What is spent or dead is never sent again: one that
        another process was refused may turn out to be spent by a process that stores late.
        """
        old = {claim.fingerprint: claim for claim in claims_in(before)}
        self._claims = {claim.fingerprint: claim for claim in claims_in(after)}
        names = {fingerprint_of(Secret(token)): token for token in self.grants}
        for fingerprint, claim in old.items():
            now = self._claims.get(fingerprint)
            token = names[fingerprint]
            if claim.state in _NEVER_AGAIN and (now is None or now.state not in _NEVER_AGAIN):
                self.broken(f"{runner.name} forgets that {token} is {claim.state}")
            if now is None or now.sends > claim.sends:
                self._repeats[runner, token] = 0
                self._doubted.discard(token)
                if now is not None and claim.is_in_doubt:
                    self._doubted.add(token)

    def heard(self, runner: Runner, token: str, answer: Exception | None) -> None:
        """A process has the answer."""
        if isinstance(answer, IssuerUnavailable) and answer.delivery is Delivery.UNKNOWN:
            self._repeats[runner, token] = max(1, self._repeats[runner, token])
        if isinstance(answer, PermanentRefreshError):
            self._dead_in.add((runner, token))
        elif self.grants[token].spender is runner:
            self.grants[token].answered = True

    def revoked(self, token: str) -> None:
        """The issuer forgot a token."""
        if token in self.grants:
            self.grants[token].revoked = True

    # The disk

    def read(self, data: bytes | None) -> Credentials | None:
        """What a file holds. A file that is there must be whole."""
        if data is None:
            return None
        if data not in self._read:
            try:
                self._read[data] = decode(data, "auth.json").credentials
            except StoreUnreadable as fault:
                self.broken(f"the stored file is not whole: {fault}")
                self._read[data] = None
        return self._read[data]

    def changed(self, runner: Runner, before: bytes | None, after: bytes | None) -> None:
        """auth.json changed for every reader."""
        old, new = self.grant_of(self.read(before)), self.grant_of(self.read(after))
        if old is not None and (new is None or new.login != old.login):
            self.ended.add(old.login)
        self._note(runner.name, f"auth.json: {old.token if old else None} -> {new.token if new else self.read(after)}")
        if new is None:
            return
        if new.login in self.ended:
            self.broken(f"{new.token} came back: its login was signed out or replaced before")
        if isinstance(stored := self.read(after), ChatgptTokens):
            self._visible.add(stored.access_token.reveal())
            new.stored_beside = stored.access_token.reveal()
        parent = self._parent(new)
        if parent is not None and parent.fate is not Fate.LIVE:
            parent.fate = Fate.STORED

    def confirmed(self, durable: bytes | None) -> None:
        """The folder was synced."""
        self._durable_now = durable
        stored = self.read(durable)
        if isinstance(stored, ChatgptTokens):
            self._durable.add(stored.access_token.reveal())
            self._durable.add(stored.refresh_token.reveal())

    def began_with(self, data: bytes | None) -> None:
        """What was stored before the history began."""
        stored = self.read(data)
        if isinstance(stored, ChatgptTokens):
            self._visible.add(stored.access_token.reveal())
        self.confirmed(data)

    def power_was_cut(self, before: bytes | None, after: bytes | None) -> None:
        """What a power cut left. What was confirmed is there; what was not may be the old."""
        old, new = self.grant_of(self.read(before)), self.grant_of(self.read(after))
        self._note("world", f"after the power cut auth.json holds {new.token if new else self.read(after)}")
        if after != before and before == self._durable_now:
            self.broken("a power cut took what the disk had confirmed")
        if old is not None and (new is None or new.login != old.login):
            self.ended.add(old.login)
        if new is not None:
            self.ended.discard(new.login)
            while (parent := self.grants.get(new.token)) is not None and parent.fate is Fate.STORED:
                if parent.successor in self._durable:
                    self.broken(f"a power cut took {parent.successor}, which was synced")
                self.lose(parent, Fate.POWER_BEFORE_SYNC)
        self._durable_now = after

    # Processes

    def lose(self, grant: Grant, fate: Fate) -> None:
        """New tokens are lost, for a reason that nobody can help."""
        grant.fate = fate
        grant.was_lost = True
        self.counts[f"lost: {fate}"] += 1
        self._note("world", f"the answer for {grant.token} is lost: {fate}")

    def underway(self, runner: Runner) -> list[Grant]:
        """What a process spent and has not stored."""
        return [grant for grant in self.grants.values() if grant.spender is runner and grant.fate is Fate.UNDERWAY]

    def died(self, runner: Runner, *, grace_ran_out: bool = False, finished: bool = False) -> None:
        """A process is gone. What it had not stored is lost; at an orderly end there must be no such thing."""
        for grant in self.underway(runner):
            if finished and not grace_ran_out:
                self.broken(f"{runner.name} ended in order, and the answer for {grant.token} is lost")
            if grace_ran_out:
                self.lose(grant, Fate.GRACE_RAN_OUT)
            elif grant.answered:
                self.lose(grant, Fate.CRASHED_BEFORE_RENAME)
            else:
                self.lose(grant, Fate.CRASHED_BEFORE_ANSWER)

    def not_stored(self, runner: Runner) -> None:
        """An engine says that the disk does not take its new tokens."""
        if not self.disk_failed:
            self.broken(f"{runner.name} could not store its tokens, and the disk never failed")
        for grant in self.underway(runner):
            self.lose(grant, Fate.REFUSED_BY_DISK)

    def installed(self, runner: Runner, tokens: ChatgptTokens) -> None:
        """An engine shows tokens to its callers: they must be on the disk, and synced if it stored them itself."""
        access, refresh = tokens.access_token.reveal(), tokens.refresh_token.reveal()
        if access not in self._visible:
            self.broken(f"{runner.name} uses tokens of {refresh} that were never on the disk")
        parent = self._parent(self.grants[refresh])
        if parent is not None and parent.spender is runner and refresh not in self._durable:
            self.broken(f"{runner.name} uses {refresh} before a power cut would keep it")

    def handed_out(self, runner: Runner, access: str) -> None:
        """A caller has an access token."""
        if access not in self._visible:
            self.broken(f"{runner.name} hands out an access token that was never on the disk")

    def failed_for_good(
        self, runner: Runner, reason: RefreshDeadReason, tokens: ChatgptTokens, now: bytes | None
    ) -> None:
        """An engine calls its refresh token dead: there must be a cause."""
        grant = self.grants[tokens.refresh_token.reveal()]
        if reason is RefreshDeadReason.EXHAUSTED and grant.was_lost:
            return
        stored = self.grant_of(self.read(now))
        if reason is RefreshDeadReason.ACCOUNT_CHANGED and (
            stored is None or stored.account_id != grant.account_id or grant.login in self.ended
        ):
            return
        self.broken(f"{runner.name} calls {grant.token} dead ({reason}), and it is {grant.fate}")

    def grant_of(self, stored: Credentials | None) -> Grant | None:
        """The grant behind stored tokens."""
        return self.grants[stored.refresh_token.reveal()] if isinstance(stored, ChatgptTokens) else None

    def _parent(self, grant: Grant) -> Grant | None:
        return self.grants.get(f"rt-{grant.login}.{grant.number - 1}")
