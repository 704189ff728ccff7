"""The world of one history of many machines."""

from random import Random

import msgspec
from model.machines.authority import MachineAuthority
from model.machines.database import SimDatabase, State
from model.machines.ledger import MachineLedger
from model.machines.machine import KEYS, Line, SimConnections
from model.simulation.issuer import EPOCH, SimAuthority
from model.simulation.scheduler import Runner, Scheduler
from model.simulation.world import World

from authstate.adapters.postgres.hold import HoldTimes
from authstate.adapters.postgres.rows import claim_from
from authstate.adapters.postgres.sealing import seal, unseal
from authstate.adapters.postgres.store import PostgresStore
from authstate.adapters.stores.auth_json_format import encode
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import RefreshDeadReason
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, CredentialStore

ACCOUNT = "alice"
TIMES = HoldTimes(lock=1.0, claim=4.0, margin=0.3, answer=1.6)
"""Shorter than the product's, as all times of the simulation."""

_SOON = 5.0  # seconds


class MachinesWorld(World):
    """Everything that the machines share."""

    ledger_kind = MachineLedger
    ledger: MachineLedger

    def __init__(self, random: Random, scheduler: Scheduler) -> None:
        super().__init__(random, scheduler, lock_timeout=6.0)
        self.clock_error = random.choice((0.0, 3600.0, -3600.0))
        """Seconds that the clock of the database is ahead."""
        self.database = SimDatabase(lambda: EPOCH + scheduler.now + self.clock_error, self._changed)
        self.ledger.database = self.database
        self.ledger.times = TIMES
        self.ledger.paused_before_write = self._paused_before_write
        self._is_failing_over = False
        self._names_of: dict[str, Runner] = {}
        self._authorities: dict[Runner, MachineAuthority] = {}
        self._acting = Runner(scheduler, "the database", lambda what: None)

    def open_store(self, runner: Runner, clock: Clock) -> CredentialStore:
        """The store of a process, on connections of its own."""
        self._names_of[runner.name] = runner
        connections = SimConnections(self.database, self.scheduler, runner, self.line)
        return PostgresStore(connections, ACCOUNT, lock_timeout=self.lock_timeout, times=TIMES)

    def authority_kind(self) -> type[SimAuthority]:
        """How processes reach the issuer."""
        world = self

        class Authority(MachineAuthority):
            async def refresh_if(self, refresh_token, ensure_may_send):  # type: ignore[no-untyped-def]
                world._authorities[self._runner] = self
                return await super().refresh_if(refresh_token, ensure_may_send)

        return Authority

    def line(self, name: str) -> tuple[Line, float, float]:
        """What becomes of a process's next statement: nothing unusual, unless a history says otherwise."""
        return Line.FINE, 0.002, 0.002

    def content(self) -> bytes | None:
        """The login that is stored now."""
        return _content(self.database.state)

    def claims(self) -> bytes:
        """What is known of refresh tokens that were sent."""
        return msgspec.json.encode(_claims(self.database.state))

    def sign_in_before(self, account_id: str = "org-1") -> ChatgptTokens:
        """Somebody signed in before the history begins."""
        from model.machines.database import Row

        tokens = self.issuer.sign_in(account_id)
        data = encode(tokens, None, indent=-1)
        login = seal(KEYS.find(KEYS.current) or b"", KEYS.current, ACCOUNT, "login", data)
        row = Row(1, None, "nobody", None, 1, KEYS.current, login, None, 0.0, "nobody")
        self.database.state = self.database.durable = State(row)
        self.ledger.began_with(data)
        return tokens

    def _assert_the_next_process_works(self) -> None:
        stored = self.ledger.read(self.content())
        expires_at = stored.expires_at if isinstance(stored, ChatgptTokens) else None
        if expires_at is not None and 0.0 <= expires_at - EPOCH - self.scheduler.now < _SOON:
            self.scheduler.after(_SOON, lambda: None)  # not in the middle of its refresh
            self.run()
        super()._assert_the_next_process_works()

    def next_outcome(self) -> str:
        """What a refresh of the next process must end with. A failover may bring a login back that was revoked."""
        stored = self.ledger.grant_of(self.ledger.read(self.content()))
        if self.ledger.has_failed_over and stored is not None and stored.revoked and not self._is_left_in_doubt(stored):
            why = _known_reason(self.database.state, stored.token) or RefreshDeadReason.REVOKED
            return f"PermanentRefreshError ({why})"
        return super().next_outcome()

    def fail_over(self, state: State) -> None:
        """A standby takes the place of the server, and has this."""
        before = self.database.state
        self._is_failing_over = True
        self.ledger.failed_over(before, state, _content)
        self.database.replace(state)
        self.ledger.claims_are(_claims(state))
        self._is_failing_over = False

    def _changed(self, before: State, after: State) -> None:
        if self._is_failing_over:
            return
        old, new = before.row, after.row
        runner = self._names_of.get(new.holder, self._acting) if new is not None else self._acting
        if old is not None and new is not None and old.writer != new.writer and old.held_until is not None:
            self.ledger.taken_over(old, self._names_of)
        if before.claims != after.claims:
            claims = msgspec.json.encode(_claims(before)), msgspec.json.encode(_claims(after))
            self.ledger.claimed(runner, *claims)
        if (old.version if old else 0) != (new.version if new else 0):
            self.ledger.changed(runner, _content(before), _content(after))
        if self.database.durable is after:
            self.ledger.confirmed(_content(after))

    def _paused_before_write(self, runner: Runner) -> float:
        authority = self._authorities.get(runner)
        return authority.paused if authority is not None else 0.0


def _content(state: State) -> bytes | None:
    row = state.row
    if row is None or row.login is None or row.key_id is None:
        return None
    return unseal(KEYS.find(row.key_id) or b"", row.key_id, ACCOUNT, "login", row.login)


def _known_reason(state: State, token: str) -> RefreshDeadReason | None:
    """Why a token is not sent again, by what the database knows."""
    known = {claim.fingerprint: claim for claim in _claims(state)}
    claim = known.get(fingerprint_of(Secret(token)))
    if claim is None or claim.state not in (RefreshClaimState.SPENT, RefreshClaimState.DEAD):
        return None
    return claim.reason or RefreshDeadReason.EXHAUSTED


def _claims(state: State) -> list[RefreshClaim]:
    found = (claim_from(claim.values) for claim in sorted(state.claims, key=lambda one: one.number))
    return [claim for claim in found if claim is not None]
