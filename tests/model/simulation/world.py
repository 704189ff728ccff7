"""The world of one history: what all processes share, how processes come and go, and what must hold at the end."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import msgspec
from model.simulation.issuer import EPOCH, Issuer, SimAuthority, Weather
from model.simulation.ledger import LOSSES, Grant, Ledger, Violation
from model.simulation.process import Caller, Process
from model.simulation.scheduler import Runner, Scheduler
from model.simulation.timeline import Timeline
from model.simulation.virtual_disk import HOME, File, SimDisk, VirtualDisk, claims_in

from authstate.adapters.journal.lines import Line
from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.home_lock import SaveRecord
from authstate.adapters.stores.last_change import digest_of
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import RefreshInDoubt
from authstate.engine.model.secret import Secret
from authstate.engine.model.states import AuthState
from authstate.engine.ports import Clock, CredentialStore

MAX_STEPS = 30_000
"""A history that is longer than this does not end."""
_LOST = "PermanentRefreshError (exhausted)"


class World:
    """Everything that processes share.

    Args:
        random: where all chance comes from.
        scheduler: who says what runs next.
        lock_timeout: seconds that a process waits for the lock.
    """

    ledger_kind = Ledger

    def __init__(self, random: Random, scheduler: Scheduler, lock_timeout: float = 6.0) -> None:
        self.random = random
        self.lock_timeout = lock_timeout
        self.scheduler = scheduler
        self.timeline = Timeline()
        self.ledger = self.ledger_kind(self.note)
        self.virtual_disk = VirtualDisk(self.ledger)
        self.issuer = Issuer(scheduler, self.ledger)
        self.processes: list[Process] = []
        self.counts: Counter[str] = self.ledger.counts
        self.journal: list[Callable[[], Line]] = []
        """What all processes tell, in order. See `lines`."""
        self._names = 0

    # What processes need of it

    def note(self, who: str, what: str) -> None:
        """Write to the timeline."""
        self.timeline.add(self.scheduler.steps, self.scheduler.now, who, what)

    def lines(self) -> Iterator[Line]:
        """The journal of all processes, as far as they got."""
        return (line() for line in self.journal)

    def open_store(self, runner: Runner, clock: Clock) -> CredentialStore:
        """The store of a process: the one that is shipped, with a way to the disk that this process has."""
        return AuthJsonStore(HOME, clock=clock, lock_timeout=self.lock_timeout, disk=self.disk(runner))

    def disk(self, runner: Runner) -> SimDisk:
        """A process's way to the disk."""
        return SimDisk(self.virtual_disk, runner)

    def authority_kind(self) -> type[SimAuthority]:
        """How processes reach the issuer."""
        return SimAuthority

    def claims(self) -> bytes:
        """What is known of refresh tokens that were sent."""
        return self.virtual_disk.claims

    def content(self) -> bytes | None:
        """What a reader of auth.json finds now."""
        return self.virtual_disk.content()

    def weather(self) -> tuple[Weather, float, float]:
        """What becomes of the next request: nothing unusual, unless a history says otherwise."""
        return Weather.FINE, 0.01, 0.01

    def ended(self, process: Process) -> None:
        """A process ended in order: its callers have their answers, and nothing of it is lost."""
        if process not in self.processes:
            return
        self._gone(process, "ends")
        self.ledger.died(process.runner, finished=True, grace_ran_out=process.grace_ran_out)

    # What happens to processes

    def start(self) -> Process:
        """A new process; it reads what is stored."""
        self._names += 1
        process = Process(self, f"p{self._names}")
        self.processes.append(process)
        self.counts["processes"] += 1
        self.note(process.name, "starts")
        process.call("start")
        return process

    def kill(self, process: Process) -> None:
        """kill -9: what is on the disk stays, the lock is free, everything else is gone."""
        self.counts["kills"] += 1
        self._gone(process, f"is killed at {process.runner.paused or 'an await'}")
        self.ledger.died(process.runner)

    def cut_power(self, kept: int, left_of: Callable[[File], bytes]) -> None:
        """Every process is gone, and what was not synced may be gone, too. See `VirtualDisk.cut_power`."""
        self.counts["power cuts"] += 1
        self.note("world", "the power fails")
        for process in list(self.processes):
            self._gone(process, "is gone")
            self.ledger.died(process.runner)
        before = self.virtual_disk.content()
        self.virtual_disk.cut_power(kept, left_of)
        self.ledger.power_was_cut(before, self.virtual_disk.content())

    def sign_in_before(self, account_id: str = "org-1") -> ChatgptTokens:
        """Somebody signed in before the history begins."""
        tokens = self.issuer.sign_in(account_id)
        data = encode(tokens, None)
        self.virtual_disk.put(data, msgspec.json.encode([SaveRecord(digest_of(tokens), EPOCH, 1)]))
        self.ledger.began_with(data)
        return tokens

    # The end

    def run(self) -> None:
        """Run until nothing happens any more. Raises Violation, with the timeline."""
        if not self.scheduler.run(self.interfere, MAX_STEPS) and not self.ledger.violations:
            self.ledger.broken(f"the history does not end within {MAX_STEPS} steps")
        self.assert_promises()

    def interfere(self, runner: Runner) -> bool:
        """Before each step: stop at a broken promise, else do nothing."""
        if self.ledger.violations:
            self.assert_promises()
        return True

    def assert_promises(self) -> None:
        """Raise Violation if one was broken."""
        if self.ledger.violations:
            raise Violation(f"{self.ledger.violations[0]}\n{self.timeline.render()}")

    def finish(self) -> None:
        """All faults are over: everybody has an answer, who lives still works, and a new process works as it must."""
        self.run()
        self._assert_answers()
        for process in list(self.processes):
            if not process.is_closing:
                process.call("refresh")
        self.run()
        self._assert_answers()
        self._assert_the_next_process_works()
        self.assert_promises()

    def close(self) -> None:
        """Drop all processes."""
        for process in self.processes:
            process.runner.kill()
        self.processes.clear()

    def _assert_answers(self) -> None:
        for process in self.processes:
            for caller in process.callers:
                if not caller.is_done:
                    self.ledger.broken(f"{caller.kind} of {process.name} never ends")
        self.assert_promises()

    def _assert_the_next_process_works(self) -> None:
        expected = self.next_outcome()
        process = self.start()
        self.run()
        caller = process.call("refresh")
        self.run()
        self.assert_next(caller, expected)

    def next_outcome(self) -> str:
        """What a refresh of the next process must end with, now that everybody is quiet."""
        stored = self.ledger.grant_of(self.ledger.read(self.content()))
        if stored is None:
            return AuthState.LOGGED_OUT.value
        if self._is_left_in_doubt(stored):
            return RefreshInDoubt.__name__
        if not stored.successor:
            return AuthState.CHATGPT.value
        if stored.fate not in LOSSES:
            self.ledger.broken(f"{stored.token} is on the disk, spent, and no crash explains it")
        return _LOST

    def _is_left_in_doubt(self, stored: Grant) -> bool:
        """Whether the next process must leave the stored refresh token alone: it may be spent, and its access token
        serves."""
        tokens = self.ledger.read(self.content())  # the access token may be that of an earlier grant
        assert isinstance(tokens, ChatgptTokens)
        if tokens.expires_at is None or tokens.expires_at <= EPOCH + self.scheduler.now:
            return False
        known = {claim.fingerprint: claim for claim in claims_in(self.claims())}
        claim = known.get(fingerprint_of(Secret(stored.token)))
        return claim is not None and claim.is_in_doubt

    def assert_next(self, caller: Caller, expected: str) -> None:
        """The refresh of the next process ended as it must, and cleaned up."""
        self.counts["histories that end signed in"] += expected != AuthState.LOGGED_OUT.value
        self.counts["histories that end with a lost login"] += expected == _LOST
        if left := [name for name in self.virtual_disk.temporary() if expected != AuthState.LOGGED_OUT.value]:
            self.ledger.broken(f"temporary files are left after the next start: {left}")
        if caller.outcome != expected:
            self.ledger.broken(f"the next process should end with {expected}, and ends with {caller.outcome}")

    def _gone(self, process: Process, how: str) -> None:
        self.note(process.name, how)
        self.processes.remove(process)
        process.runner.kill()
        self.scheduler.forget(process.runner)
        self.virtual_disk.died(process.runner)


def disk_fault(number: int) -> OSError:
    """What a failing disk raises."""
    return OSError(number, {errno.ENOSPC: "No space left on device", errno.EIO: "Input/output error"}[number])


__all__ = ["Caller", "World", "disk_fault"]
