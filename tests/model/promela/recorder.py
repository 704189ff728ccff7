"""A history of the simulation as a trace: what could be seen from outside, as numbers that the model knows."""

from typing import NamedTuple

from model.promela.spin import codes
from model.simulation.history import History
from model.simulation.ledger import Grant, Ledger
from model.simulation.process import Process
from model.simulation.scheduler import Runner
from model.simulation.virtual_disk import FILE, SimDisk, SimLock, VirtualDisk, claims_in

from authstate.adapters.stores.auth_json_format import decode
from authstate.adapters.stores.disk import TEMPORARY
from authstate.engine.machines.refresh_claim import RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, Delivery, IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.events import Event, StateChanged
from authstate.engine.model.secret import Secret
from authstate.engine.model.states import Trigger
from authstate.engine.ports import PartialRefresh

MOST_PROCESSES = 10
"""At the same time."""
MOST_TOKENS = 39
TORN = 255
"""Stands for a file that is not whole."""


CODES = codes()
_TRIGGERS = {
    Trigger.COMPLETE_CHATGPT_LOGIN: CODES["LOGIN"],
    Trigger.USE_EXTERNAL_TOKENS: CODES["EXTERNAL"],
    Trigger.LOG_OUT: CODES["LOGOUT"],
    Trigger.TOKENS_REFRESHED: CODES["REFRESHED"],
    Trigger.REFRESH_REJECTED: CODES["REJECTED"],
}
_CLAIMS = {state: CODES[f"IS_{state.name}"] for state in RefreshClaimState}


class Step(NamedTuple):
    """One event of a trace, as the model reads it."""

    kind: int
    process: int = 0
    a: int = 0
    b: int = 0


class TooLarge(Exception):
    """A history has more processes or tokens than the model."""


class Recorder:
    """The trace of one history, as it grows."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tokens: dict[str, int] = {}
        """The number of each token: the issuer's order."""
        self.is_over = False
        self._processes: dict[str, int] = {}

    def add(self, kind: str, process: str = "", a: int = 0, b: int = 0) -> None:
        """Append an event. `process` is its name."""
        if not self.is_over:
            self.steps.append(Step(CODES[kind], self._processes[process] if process else 0, a, b))

    def began(self, process: str) -> None:
        """Give a process the lowest number that no living one has."""
        free = set(range(1, MOST_PROCESSES + 1)) - set(self._processes.values())
        if not free:
            raise TooLarge
        self._processes[process] = min(free)
        self.add("START", process)

    def ended(self, process: str, *, in_order: bool) -> None:
        """A process is gone."""
        self.add("DIE", process, int(in_order))
        del self._processes[process]

    def issued(self, token: str) -> None:
        """Give a new token its number."""
        self.tokens[token] = len(self.tokens) + 1
        if len(self.tokens) > MOST_TOKENS:
            raise TooLarge

    def stored(self, data: bytes | None) -> int:
        """The number of the token in a file; 0 for none."""
        if data is None:
            return 0
        try:
            found = decode(data, "auth.json").credentials
        except AuthError:
            return TORN
        return self.tokens[found.refresh_token.reveal()] if isinstance(found, ChatgptTokens) else 0


class _RecordingLedger(Ledger):
    recorder: Recorder
    syncing = ""
    """The process that syncs the folder."""
    is_arriving = False

    def issued(self, grant: Grant) -> None:
        super().issued(grant)
        self.recorder.issued(grant.token)
        if not self.is_arriving:
            self.recorder.add("ISSUE", a=int(grant.account_id.removeprefix("org-")))
        self.is_arriving = False

    def sent(self, runner: Runner, token: str, *, has_cause: bool, is_usable: bool) -> None:
        self.recorder.add("SEND", runner.name, self.recorder.tokens[token], is_usable + 2 * (not has_cause))
        super().sent(runner, token, has_cause=has_cause, is_usable=is_usable)

    def arrived(self, runner: Runner, token: str, *, is_late: bool) -> Grant | None:
        found = super().arrived(runner, token, is_late=is_late)
        process = runner.name if runner.name in self.recorder._processes else ""
        self.recorder.add("ARRIVE", process, self.recorder.tokens[token], int(found is not None))
        self.is_arriving = found is not None
        return found

    def heard(self, runner: Runner, token: str, answer: Exception | None) -> None:
        self.recorder.add("HEAR", runner.name, self.recorder.tokens[token], CODES[_heard(answer)])
        super().heard(runner, token, answer)

    def claimed(self, runner: Runner, before: bytes, after: bytes) -> None:
        old, new = ({claim.fingerprint: claim for claim in claims_in(data)} for data in (before, after))
        for token, number in self.recorder.tokens.items():
            fingerprint = fingerprint_of(Secret(token))
            was, now = old.get(fingerprint), new.get(fingerprint)
            if (was and (was.state, was.sends)) != (now and (now.state, now.sends)):
                self.recorder.add("CLAIM", runner.name, number, _CLAIMS[now.state if now else RefreshClaimState.FREE])
        super().claimed(runner, before, after)

    def changed(self, runner: Runner, before: bytes | None, after: bytes | None) -> None:
        self.recorder.add("STORE", runner.name, self.recorder.stored(after))
        super().changed(runner, before, after)

    def began_with(self, data: bytes | None) -> None:
        self.recorder.add("BEGIN", a=self.recorder.stored(data))
        super().began_with(data)

    def confirmed(self, durable: bytes | None) -> None:
        if self.syncing:
            self.recorder.add("SYNC", self.syncing)
        super().confirmed(durable)

    def power_was_cut(self, before: bytes | None, after: bytes | None) -> None:
        self.recorder.add("POWER", a=self.recorder.stored(after))
        super().power_was_cut(before, after)

    def died(self, runner: Runner, *, grace_ran_out: bool = False, finished: bool = False) -> None:
        self.recorder.ended(runner.name, in_order=finished and not grace_ran_out)
        super().died(runner, grace_ran_out=grace_ran_out, finished=finished)

    def revoked(self, token: str) -> None:
        self.recorder.add("REVOKE", a=self.recorder.tokens[token])
        super().revoked(token)


def _heard(answer: Exception | None) -> str:
    if answer is None:
        return "ANSWER"
    if isinstance(answer, PartialRefresh):
        return "PARTIAL"
    if isinstance(answer, PermanentRefreshError):
        return "REFUSED"
    assert isinstance(answer, IssuerUnavailable)
    return "UNKNOWN" if answer.delivery is Delivery.UNKNOWN else "BUSY"


class _RecordingLock(SimLock):
    def __init__(self, virtual_disk: VirtualDisk, runner: Runner, recorder: Recorder) -> None:
        super().__init__(virtual_disk, runner)
        self._recorder = recorder

    def acquire(self) -> bool:
        taken = super().acquire()
        if taken:
            self._recorder.add("LOCK", self._runner.name)
        return taken

    def release(self) -> None:
        super().release()
        self._recorder.add("UNLOCK", self._runner.name)


class _RecordingDisk(SimDisk):
    def __init__(self, virtual_disk: VirtualDisk, runner: Runner, ledger: _RecordingLedger) -> None:
        super().__init__(virtual_disk, runner)
        self._ledger = ledger
        self._recorder = ledger.recorder

    def read(self, path: str, limit: int) -> bytes:
        is_login = path.endswith(FILE)
        try:
            data = super().read(path, limit)
        except FileNotFoundError:
            if is_login:
                self._recorder.add("READ", self._runner.name)
            raise
        if is_login:
            self._recorder.add("READ", self._runner.name, self._recorder.stored(data))
        return data

    def sync(self, path: str) -> None:
        super().sync(path)
        number = self._recorder.stored(self._found(path).synced) if path.endswith(TEMPORARY) else 0
        if number not in (0, TORN):
            self._recorder.add("FILLED", self._runner.name, number)

    def sync_folder(self, folder: str) -> None:
        self._ledger.syncing = self._runner.name
        try:
            super().sync_folder(folder)
        finally:
            self._ledger.syncing = ""

    def lock(self, path: str) -> SimLock:
        return _RecordingLock(self._platter, self._runner, self._recorder)


class RecordedHistory(History):
    """A history that writes its trace. It is the same history as without."""

    ledger_kind = _RecordingLedger
    ledger: _RecordingLedger

    def __init__(self, seed: int) -> None:
        self.recorder = Recorder()
        super().__init__(seed)
        self.ledger.recorder = self.recorder

    def disk(self, runner: Runner) -> SimDisk:
        return _RecordingDisk(self.virtual_disk, runner, self.ledger)

    def start(self) -> Process:
        process = super().start()
        self.recorder.began(process.name)

        def hear(event: Event) -> None:
            if isinstance(event, StateChanged):
                tokens = event.current.credentials
                number = 0
                if isinstance(tokens, ChatgptTokens):
                    number = self.recorder.tokens[tokens.refresh_token.reveal()]
                self.recorder.add("FIRE", process.name, number, _TRIGGERS[Trigger(event.trigger)])

        process.engine.subscribe(hear)
        return process

    def close(self) -> None:
        self.recorder.is_over = True
        super().close()
