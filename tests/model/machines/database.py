"""The simulated database: what each statement of a store does to the row of one account.

Statements are transactions: each happens at one moment. A commit that need not be durable may be lost when the server
crashes. A standby has what was replicated until now.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from authstate.adapters.postgres import statements

Values = Mapping[str, Any]
Answer = dict[str, Any] | None
_CLAIM_FIELDS = (*("fingerprint", "state", "at", "holder", "sends", "reason", "detail", "owner", "successor"),)


class Row(msgspec.Struct, frozen=True):
    """The row of the account."""

    generation: int
    writer: object
    holder: str
    held_until: float | None
    version: int = 0
    key_id: str | None = None
    login: bytes | None = None
    fingerprint: str | None = None
    changed_at: float | None = None
    changed_by: str = ""


class Claim(msgspec.Struct, frozen=True):
    """A row of the refresh claims."""

    number: int
    values: dict[str, Any]


class State(msgspec.Struct, frozen=True):
    """All that the database holds."""

    row: Row | None = None
    claims: tuple[Claim, ...] = ()

    def find(self, fingerprint: str) -> Claim | None:
        """The claim on a token."""
        return next((claim for claim in self.claims if claim.values["fingerprint"] == fingerprint), None)

    def with_claim(self, number: int, values: Values) -> "State":
        """With one more claim, and only the newest ones."""
        claim = Claim(number, {name: values[name] for name in _CLAIM_FIELDS})
        others = [one for one in self.claims if one.values["fingerprint"] != claim.values["fingerprint"]]
        kept = sorted(self.claims, key=lambda one: -one.number)[: values["kept"]]
        oldest = kept[-1].number if len(kept) == values["kept"] else 0
        return State(self.row, (*(one for one in others if one.number >= oldest), claim))

    def without_claim(self, fingerprint: str) -> "State":
        """Without the claim on a token."""
        return State(self.row, tuple(one for one in self.claims if one.values["fingerprint"] != fingerprint))


class SimDatabase:
    """One account's database.

    Args:
        now: its clock, in seconds.
        changed: called after each commit, with the state before and the one after.
    """

    def __init__(self, now: Callable[[], float], changed: Callable[[State, State], None]) -> None:
        self.now = now
        self.state = State()
        self.durable = State()
        """What a crash of the server leaves."""
        self._changed = changed

    def execute(self, statement: str, values: Values) -> Answer:
        """Do a statement. Returns its first row."""
        answer: Answer = getattr(self, _METHODS[statement])(values)
        return answer

    def crash(self) -> None:
        """The server ends and starts again."""
        self.replace(self.durable)

    def replace(self, state: State) -> None:
        """Another server takes its place, which has this."""
        before, self.state, self.durable = self.state, state, state
        self._changed(before, state)

    def _commit(self, state: State, *, is_durable: bool = True) -> None:
        before, self.state = self.state, state
        if is_durable:
            self.durable = state
        self._changed(before, state)

    def _take(self, values: Values) -> Answer:
        row, now = self.state.row, self.now()
        until = now + values["seconds"]
        if row is None:
            row = Row(1, values["writer"], values["holder"], until)
        elif self.may_take(row, values):
            row = msgspec.structs.replace(
                row,
                generation=max(row.generation + (row.writer != values["writer"]), values["generation"]),
                writer=values["writer"],
                holder=values["holder"],
                held_until=max(until, row.held_until or until),
            )
        else:
            return None
        self._commit(State(row, self.state.claims), is_durable=False)
        return {name: getattr(row, name) for name in ("generation", "version", "key_id", "login")}

    def may_take(self, row: Row, values: Values) -> bool:
        """Whether nobody else holds the row."""
        is_over = row.held_until is None or row.held_until < self.now() - values["margin"]
        return is_over or row.writer == values["writer"]

    def is_ours(self, row: Row | None, values: Values) -> bool:
        """Compare and swap: whether the row has this writer, and no later write than this one."""
        return row is not None and row.writer == values["writer"] and row.generation <= values["generation"]

    def _written(self, values: Values, **changes: Any) -> State | None:
        row = self.state.row
        if not self.is_ours(row, values):
            return None
        assert row is not None
        row = msgspec.structs.replace(row, generation=values["generation"], **changes)
        return State(row, self.state.claims)

    def _release(self, values: Values) -> Answer:
        if self.state.row is None or self.state.row.held_until is None:
            return None
        return self._done(self._written(values, held_until=None), is_durable=False)

    def _renew(self, values: Values) -> Answer:
        return self._done(self._written(values, held_until=self.now() + values["seconds"]))

    def _claim(self, values: Values) -> Answer:
        return self._done(self._written(values, held_until=self.now() + values["seconds"]), values)

    def _record(self, values: Values) -> Answer:
        return self._done(self._written(values), values)

    def _free(self, values: Values) -> Answer:
        state = self._written(values)
        return self._done(state and state.without_claim(values["fingerprint"]))

    def _save(self, values: Values) -> Answer:
        return self._saved(self._done(self._written(values, **self._login(values))))

    def _settle(self, values: Values) -> Answer:
        return self._saved(self._done(self._written(values, held_until=None, **self._login(values)), values))

    def _saved(self, answer: Answer) -> Answer:
        row = self.state.row
        return {"version": row.version} if answer is not None and row is not None else None

    def _login(self, values: Values) -> dict[str, Any]:
        row = self.state.row
        return {
            "version": row.version + 1 if row is not None else 1,
            "key_id": values["key_id"],
            "login": values["login"],
            "fingerprint": values["login_fingerprint"],
            "changed_at": self.now(),
            "changed_by": values["holder"],
        }

    def _done(self, state: State | None, claim: Values | None = None, *, is_durable: bool = True) -> Answer:
        if state is None:
            return None
        self._commit(
            state.with_claim(claim["generation"], claim) if claim is not None else state, is_durable=is_durable
        )
        return {"generation": state.row.generation if state.row is not None else 0}

    def _tell(self, values: Values) -> Answer:
        return None  # nobody listens: the processes ask

    def _load(self, values: Values) -> Answer:
        row = self.state.row
        names = ("generation", "version", "key_id", "login")
        return None if row is None else {name: getattr(row, name) for name in names}

    def _find_claim(self, values: Values) -> Answer:
        found = self.state.find(values["fingerprint"])
        return None if found is None else dict(found.values)

    def _holder(self, values: Values) -> Answer:
        row = self.state.row
        if row is None or row.held_until is None:
            return None
        return {"holder": row.holder, "left_seconds": row.held_until - self.now()}

    def _last_change(self, values: Values) -> Answer:
        row = self.state.row
        return None if row is None or row.changed_at is None else {"changed_by": row.changed_by, "at": row.changed_at}

    def _checked_key(self, values: Values) -> Answer:
        return {"checked": values["checked"]}  # all processes have the same key


_METHODS: Mapping[str, str] = {
    statements.TAKE: "_take",
    statements.RELEASE: "_release",
    statements.RENEW: "_renew",
    statements.CLAIM: "_claim",
    statements.RECORD: "_record",
    statements.FREE: "_free",
    statements.SAVE: "_save",
    statements.SETTLE: "_settle",
    statements.TELL: "_tell",
    statements.LOAD: "_load",
    statements.FIND_CLAIM: "_find_claim",
    statements.HOLDER: "_holder",
    statements.LAST_CHANGE: "_last_change",
    statements.CHECKED_KEY: "_checked_key",
}
