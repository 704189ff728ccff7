"""Replays a journal over the tables, and finds the first step that must not happen.

The tables of the login and of the refresh claims say which trigger leads where. Rules of the refresh protocol add what
a table of one thing cannot say, such as "a token is claimed before it is sent". `RULES` lists them. A journal may have
gaps: where lines are lost, what they would have said counts as unknown, and nothing is refused because of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.claim_order import first_disorder
from authstate.adapters.report.refusal import Refusal
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE, RefreshClaimState
from authstate.engine.machines.table import Table
from authstate.engine.model.errors import Delivery, RefreshDeadReason
from authstate.engine.model.events import RefreshReason
from authstate.engine.model.states import AuthState, Trigger

CLAIM_BEFORE_SENDING: Final = "claim before sending"
WAIT_WHILE_USABLE: Final = "wait while the access token is usable"
REPEAT_ONCE: Final = "repeat a lost answer once"
DOUBT_AFTER_SENDING: Final = "a token that was sent is in doubt"
STORE_BEFORE_USE: Final = "store before use"
CREDENTIALS_OF_THE_STATE: Final = "credentials of the state"
REFUSED_BEFORE_RENEWAL: Final = "renew what was refused"
ADOPT_WHAT_REPLACED_IT: Final = "adopt what replaced it"
RULES: Final[Mapping[str, str]] = {
    CLAIM_BEFORE_SENDING: "a refresh token is claimed before it is sent, so that every process knows",
    WAIT_WHILE_USABLE: "a refresh token in doubt is not sent while the access token is usable",
    REPEAT_ONCE: "after a lost answer, a refresh token is sent once more, and not again",
    DOUBT_AFTER_SENDING: "a claim is withdrawn only if the issuer certainly did not process the token",
    STORE_BEFORE_USE: "new tokens are stored, and the claim on the old one ended, before anybody uses them",
    CREDENTIALS_OF_THE_STATE: "a state holds credentials of its own kind",
    REFUSED_BEFORE_RENEWAL: "after a 401, only the access token that was refused is renewed, and no newer one",
    ADOPT_WHAT_REPLACED_IT: "a process whose tokens were replaced adopts the new ones, unless a backup was restored",
}
"""What the tables cannot say: the name of each rule, and what it asks."""
_KINDS = {
    AuthState.LOGGED_OUT: ("none",),
    AuthState.API_KEY: ("api_key", "personal_access_token"),
    AuthState.CHATGPT: ("chatgpt",),
    AuthState.EXTERNAL_TOKENS: ("external_tokens",),
    AuthState.REFRESH_DEAD: ("chatgpt",),
}
_OPEN = ("sent", "lost", "repeated", "answered")
_STATES = frozenset(AuthState)
_TRIGGERS = frozenset(Trigger)
_CLAIM_STATES = frozenset(RefreshClaimState)


class ReplayTables(msgspec.Struct, frozen=True):
    """The tables to replay over."""

    auth: Table = AUTH_TABLE
    claims: Table = REFRESH_CLAIM_TABLE


class Replay(msgspec.Struct, frozen=True):
    """What a replay found."""

    steps: int
    """How many lines were checked."""
    refusals: tuple[Refusal, ...]
    """The steps that are not allowed, in the order of the journal: the first one of each engine and each token."""
    not_known: tuple[str, ...] = ()
    """The tokens whose claims can have happened in too many orders to try them all."""

    @property
    def first(self) -> Refusal | None:
        """The first step that is not allowed. None: none was found."""
        return self.refusals[0] if self.refusals else None


def replay(lines: Sequence[Line], tables: ReplayTables | None = None) -> Replay:
    """Check each line of a journal. Costs some tens of microseconds a line, and raises nothing."""
    tables = tables or ReplayTables()
    found = list(_of_engines(lines, tables))
    not_known: list[str] = []
    for token, disorder in _of_tokens(lines, tables):
        if isinstance(disorder, str):
            not_known.append(token)
        else:
            found.append(disorder)
    found.sort(key=lambda one: one[0])
    return Replay(len(lines), tuple(refusal for _, refusal in found), tuple(not_known))


def _of_tokens(
    lines: Sequence[Line], tables: ReplayTables
) -> Iterator[tuple[str, tuple[int, Refusal] | Literal["not known"]]]:
    """What the claims on each token, by all processes, have to say."""
    steps: dict[str, list[tuple[int, Line]]] = {}
    last: dict[str, Line] = {}
    has_gaps: set[str] = set()
    for place, line in enumerate(lines):
        before = last.get(line.by)
        if line.n != (before.n + 1 if before is not None else 1):
            has_gaps.add(line.by)
        last[line.by] = line
        if line.what == "claim" and _is_known_claim(line):
            steps.setdefault(str(line.data.get("token")), []).append((place, line))
    cut_off = has_gaps | {by for by, line in last.items() if line.what != "ended"}
    for token, of_token in steps.items():
        if (disorder := first_disorder(of_token, cut_off, tables.claims)) is not None:
            yield token, disorder


def _is_known_claim(line: Line) -> bool:
    return line.data.get("found") in _CLAIM_STATES and line.data.get("state") in _CLAIM_STATES


def _of_engines(lines: Sequence[Line], tables: ReplayTables) -> Iterator[tuple[int, Refusal]]:
    """What the lines of each engine have to say, up to the first one that is not allowed."""
    engines: dict[str, _Engine] = {}
    settled: dict[str, str] = {}
    for place, line in enumerate(lines):
        engine = engines.get(line.by)
        if engine is None:
            engine = engines[line.by] = _Engine(tables, settled)
        if not engine.is_refused and (refusal := engine.take(line)) is not None:
            engine.is_refused = True
            yield place, refusal
        if line.what == "claim" and line.data.get("successor"):
            settled[str(line.data.get("token"))] = line.by


class _Engine:
    """What is known of one engine after its lines so far."""

    def __init__(self, tables: ReplayTables, settled: Mapping[str, str]) -> None:
        self.is_refused = False
        self._tables = tables
        self._settled = settled
        self._next = 1
        self._state: str | None = None  # None: not known
        self._generation: int | None = None
        self._token: str | None = None
        self._claimed: dict[str, str] = {}
        """What became of each token that it claimed: `claimed`, `sent`, `lost`, `repeated` or `answered`."""
        self._knows_claims = True
        self._refused: set[int] = set()  # generations whose access token the backend refused
        self._expires_at: float | None = None
        self._latest = 0.0  # by the clock of the engine, which may jump: since the last change of its state
        self._has_sent = False  # within the refresh that is under way

    def take(self, line: Line) -> Refusal | None:
        """Return why a line is not allowed. None if it is."""
        if line.n != self._next:
            self._forget()
        self._next = line.n + 1
        self._latest = max(self._latest, line.at)
        check = _CHECKS.get(line.what)
        found = check(self, line) if check is not None else None
        return None if found is None else Refusal(line, *found)

    def _forget(self) -> None:
        self._state = self._generation = self._token = None
        self._refused.clear()
        self._claimed.clear()
        self._knows_claims = False

    def state_changed(self, line: Line) -> tuple[str, str] | None:
        """Check a change of the session."""
        data = line.data
        trigger, previous, state = data.get("trigger"), data.get("previous"), data.get("state")
        token, generation = data.get("token"), data.get("generation")
        was, before = self._state, self._generation
        self._state = state if isinstance(state, str) else None
        self._generation = generation if isinstance(generation, int) else None
        if data.get("same_access") and before in self._refused:
            self._refused.add(before + 1)
        expires_at = data.get("expires_at")
        self._expires_at = expires_at if isinstance(expires_at, int | float) else None
        self._latest = line.at
        old, self._token = self._token, token if isinstance(token, str) else None
        if trigger not in _TRIGGERS or previous not in _STATES or state not in _STATES:
            return None  # of a newer release
        table = self._tables.auth
        if was is not None and was != previous:
            return table.name, f"it leaves the state {previous}, and by the line before, the state is {was}"
        if before is not None and generation != before + 1:
            return table.name, f"generation {generation} follows generation {before}"
        if (target := table.target(str(previous), str(trigger))) != state:
            leads = "leads nowhere" if target is None else f"leads to {target}"
            return table.name, f"{trigger} leads from {previous} to {state}, and in the table it {leads}"
        if data.get("kind", "none") not in _KINDS[AuthState(state)]:
            return CREDENTIALS_OF_THE_STATE, f"the state {state} holds credentials of the kind {data.get('kind')}"
        if trigger == Trigger.TOKENS_REFRESHED and self._has_sent and self._claimed.get(old or "") in _OPEN:
            return STORE_BEFORE_USE, "new tokens are used, and the claim on the token that was sent for them is open"
        if trigger == Trigger.REFRESH_REJECTED and self._was_replaced(line, old):
            return ADOPT_WHAT_REPLACED_IT, (
                "it calls its refresh token spent without sending it, and another process had stored the new tokens"
            )
        return None

    def _was_replaced(self, line: Line, token: str | None) -> bool:
        is_exhausted = line.data.get("reason") == RefreshDeadReason.EXHAUSTED
        return is_exhausted and not self._has_sent and token in self._settled

    def claim(self, line: Line) -> tuple[str, str] | None:
        """Check a step of a claim by what this engine knows."""
        data = line.data
        trigger, found, state = data.get("trigger"), data.get("found"), data.get("state")
        token = str(data.get("token"))
        if not _is_known_claim(line):
            return None
        target = self._tables.claims.target(str(found), str(trigger))
        if target != state:
            leads = "leads nowhere" if target is None else f"leads to {target}"
            return self._tables.claims.name, f"{trigger} leads from {found} to {state}, and in the table it {leads}"
        if state == RefreshClaimState.CLAIMED:
            self._claimed[token] = "claimed" if data.get("recorded", True) else "unwritten"
            if data.get("could_wait"):
                return WAIT_WHILE_USABLE, "the refresh token may be spent, and the access token is usable"
            return None
        sent = self._claimed.get(token)
        self._claimed[token] = "ended"
        if state == RefreshClaimState.FREE and sent in _OPEN[:-1]:
            return (
                DOUBT_AFTER_SENDING,
                "it says that the token works as before, and it was sent without an answer",
            )
        return None

    def sent(self, line: Line) -> tuple[str, str] | None:
        """Check that a token may be sent."""
        token = str(line.data.get("token"))
        before = self._claimed.get(token)
        self._has_sent = True
        if before == "repeated":
            return REPEAT_ONCE, "the refresh token is sent a second time after a lost answer"
        if before in (None, "ended", "unwritten") and self._knows_claims:
            return CLAIM_BEFORE_SENDING, "the refresh token is sent, and nobody claimed it"
        self._claimed[token] = "repeated" if before == "lost" else "sent"
        return None

    def answered(self, line: Line) -> None:
        """Note what became of a token that was sent."""
        token, data = str(line.data.get("token")), line.data
        is_lost = data.get("delivery") == Delivery.UNKNOWN
        before = self._claimed.get(token)
        if before is not None and before != "repeated":
            self._claimed[token] = "lost" if is_lost else "answered"
        elif before == "repeated" and "error" not in data:
            self._claimed[token] = "answered"

    def refresh_started(self, line: Line) -> tuple[str, str] | None:
        """Check why a refresh begins."""
        self._has_sent = False
        self._knows_claims = True
        generation = line.data.get("generation")
        has_expired = self._expires_at is not None and self._expires_at <= self._latest
        is_known = self._generation is not None and generation == self._generation
        is_because_of_401 = line.data.get("reason") == RefreshReason.UNAUTHORIZED and self._state == AuthState.CHATGPT
        if is_because_of_401 and is_known and not has_expired and generation not in self._refused:
            return REFUSED_BEFORE_RENEWAL, "it renews an access token because of a 401, and another one was refused"
        return None

    def refresh_ended(self, line: Line) -> None:
        """Note that what follows is not of a refresh."""
        self._has_sent = False

    def unauthorized(self, line: Line) -> None:
        """Note a 401."""
        generation = line.data.get("generation")
        if isinstance(generation, int):
            self._refused.add(generation)


_CHECKS: Mapping[str, Callable[[_Engine, Line], tuple[str, str] | None]] = {
    "state_changed": _Engine.state_changed,
    "claim": _Engine.claim,
    "sent": _Engine.sent,
    "answered": _Engine.answered,
    "refresh_started": _Engine.refresh_started,
    "refresh_ended": _Engine.refresh_ended,
    "unauthorized": _Engine.unauthorized,
}
