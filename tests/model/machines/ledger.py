"""The promises of many machines on one database, besides those of model/simulation."""

from collections.abc import Callable

from model.machines.database import Row, SimDatabase, State
from model.simulation.ledger import Fate, Ledger
from model.simulation.scheduler import Runner

from authstate.adapters.postgres.hold import HoldTimes
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.secret import Secret


class MachineLedger(Ledger):
    """Hears of holds, too: who sends a token must hold the row at that moment, and for as long as an answer takes.

    Args:
        note: writes to the timeline.
    """

    database: SimDatabase
    times: HoldTimes
    paused_before_write: Callable[[Runner], float]
    """Seconds for which a process stood still between its last check and the write."""

    def sent(self, runner: Runner, token: str, *, has_cause: bool, is_usable: bool) -> None:
        """A process writes a refresh token to the network."""
        paused = self.paused_before_write(runner)
        row = self.database.state.row
        left = -1.0 if row is None or row.held_until is None else row.held_until - self.database.now()
        is_holder = row is not None and row.holder == runner.name and row.held_until is not None
        is_known = not self.has_failed_over or (paused == 0.0 and self._is_claimed(token))
        if is_known and is_holder and left + paused >= self.times.answer - 1e-6:
            if left < self.times.answer - 1e-6:
                self._excuse(runner, token)
            super().sent(runner, token, has_cause=has_cause, is_usable=is_usable)
        elif paused > 0.0:
            self.counts["sent after a pause between check and write"] += 1
            self._excuse(runner, token)
        elif self.has_failed_over:
            self.counts["sent by a holder of which the new server does not know"] += 1
            self._excuse(runner, token)
        else:
            holder = row.holder if row is not None else "nobody"
            self.broken(f"{runner.name} sends {token}, and {holder} holds the row, for {left:.2f} s")

    def _is_claimed(self, token: str) -> bool:
        claim = self._claims.get(fingerprint_of(Secret(token)))
        return claim is not None and claim.state is RefreshClaimState.CLAIMED

    def __init__(self, note: Callable[[str, str], None]) -> None:
        super().__init__(note)
        self.has_failed_over = False
        """Whether commits were lost with a server."""
        self._is_excused: set[tuple[Runner, str]] = set()
        """Who sent which token too late, and could not know."""
        self._sent_late: set[str] = set()
        """Tokens that somebody sent too late. Whoever else sends one then may be refused."""

    def _excuse(self, runner: Runner, token: str) -> None:
        self._is_excused.add((runner, token))
        self._sent_late.add(token)

    def arrived(self, runner: Runner, token: str, *, is_late: bool):  # type: ignore[no-untyped-def]
        """A refresh token reached the issuer."""
        is_excused = token in self._sent_late or self.has_failed_over
        return super().arrived(runner, token, is_late=is_late or is_excused)

    def died(self, runner: Runner, *, grace_ran_out: bool = False, finished: bool = False) -> None:
        """A process is gone. An answer that came too late is not stored if somebody signed out meanwhile."""
        for grant in self.underway(runner):
            if grant.token in self._sent_late and grant.login in self.ended:
                self.lose(grant, Fate.HELD_TOO_LONG)
        super().died(runner, grace_ran_out=grace_ran_out, finished=finished)

    def taken_over(self, old: Row, names: dict[str, Runner]) -> None:
        """A row was taken whose holder had not done with it in time."""
        self.counts["holds that were taken over"] += 1
        runner = names.get(old.holder)
        self.disk_failed = True  # what the late holder received may not be stored
        for grant in self.underway(runner) if runner is not None else ():
            self.lose(grant, Fate.HELD_TOO_LONG)

    def failed_over(self, before: State, after: State, read: Callable[[State], bytes | None]) -> None:
        """Another server took the place of this one, and commits may be lost."""
        if before == after:
            return
        self.has_failed_over = self.disk_failed = True
        self._repeats.clear()  # what a process noted of a token that it sent may be lost, too
        self.counts["failovers that lost commits"] += 1
        old, new = self.grant_of(self.read(read(before))), self.grant_of(self.read(read(after)))
        if new is None:
            if old is not None:
                self.ended.add(old.login)
        else:
            self.ended.discard(new.login)
            for grant in self.grants.values():
                if grant.login == new.login and grant.number >= new.number and grant.fate is not Fate.LIVE:
                    self.lose(grant, Fate.FAILED_OVER)
        self._durable_now = read(after)

    def claims_are(self, claims: list[RefreshClaim]) -> None:
        """Another server knows these claims."""
        self._claims = {claim.fingerprint: claim for claim in claims}

    def failed_for_good(self, runner, reason, tokens: ChatgptTokens, now):  # type: ignore[no-untyped-def]
        """An engine calls its refresh token dead."""
        is_revoked = reason is RefreshDeadReason.REVOKED and self.grants[tokens.refresh_token.reveal()].revoked
        token = tokens.refresh_token.reveal()
        is_taken = token in self._sent_late and self.grants[token].fate is not Fate.STORED
        is_late = is_taken or (runner, token) in self._is_excused
        if not is_revoked and not is_late and not self.has_failed_over:
            super().failed_for_good(runner, reason, tokens, now)
