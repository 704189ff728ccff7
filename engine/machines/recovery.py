"""The 401 recovery: what to do when the backend refuses a token, as a small table of its own.

A recovery starts in `diagnose`, and each state has a step: a coroutine that looks or acts and returns the trigger to
pull. It ends in `retry` (there is a newer token: send the request again) or `exhausted`. A new mode adds rows and steps
to the plan; the loop does not know the modes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.model.errors import AuthError, IssuerUnavailable, RecoveryExhausted
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

RECOVERY_TABLE = Table(
    name="recovery",
    title="401 recovery",
    states=("diagnose", "reload", "refresh", "ask_parent", "retry", "exhausted"),
    initial="diagnose",
    rows=(
        Row("generation_moved_on", ("diagnose",), "retry", "newer tokens are there already"),
        Row("no_recovery", ("diagnose",), "exhausted", "an API key or no login: nothing can be renewed"),
        Row("managed_tokens", ("diagnose",), "reload", "chatgpt and refresh_dead: look into the store first"),
        Row("parent_owned_tokens", ("diagnose",), "ask_parent", "external_tokens: only the parent has new ones"),
        Row("store_changed", ("reload",), "retry", "another process refreshed: its tokens were adopted"),
        Row("store_unchanged", ("reload",), "refresh", "the refused token is the newest there is"),
        Row("refreshed", ("refresh",), "retry", "the issuer gave new tokens"),
        Row("refresh_failed", ("refresh",), "exhausted", "permanent or transient: the caller gets the reason"),
        Row("parent_answered", ("ask_parent",), "retry", "the parent sent new tokens"),
        Row("parent_failed", ("ask_parent",), "exhausted", "error, timeout, malformed or another workspace"),
    ),
)


class Recoverable(Protocol):
    """What a step may use of the engine."""

    @property
    def session(self) -> Session:
        """The current snapshot."""
        ...

    async def reload(self) -> bool:
        """Adopt newer tokens of the same account from the store; tell whether there were any."""
        ...

    @property
    def pause_reason(self) -> IssuerUnavailable | None:
        """Why the issuer is not asked just now: a moment ago it could not be. None when it may be asked."""
        ...

    async def refresh(self) -> Session:
        """Refresh now. Raises PermanentRefreshError or TransientAuthError."""
        ...

    async def ask_parent(self) -> Session:
        """Ask the parent for new tokens. Raises ParentUnavailable."""
        ...


class Recovery:
    """One recovery under way: a model of the table, the engine it acts on and the generation that was refused."""

    def __init__(self, engine: Recoverable, refused_generation: int) -> None:
        self.state: str = RECOVERY_TABLE.initial
        self.engine = engine
        self.refused_generation = refused_generation
        self.error: AuthError | None = None


Step = Callable[[Recovery], Awaitable[str]]


async def diagnose(recovery: Recovery) -> str:
    """Which way to go, by the generation and the state."""
    session = recovery.engine.session
    if session.generation != recovery.refused_generation:
        return "generation_moved_on"
    if session.state in (AuthState.CHATGPT, AuthState.REFRESH_DEAD):
        return "managed_tokens"
    if session.state is AuthState.EXTERNAL_TOKENS:
        return "parent_owned_tokens"
    recovery.error = RecoveryExhausted(
        "the backend refused the API key: give a valid one"
        if session.state is AuthState.API_KEY
        else "the backend refused the request, and nobody is signed in: sign in first"
    )
    return "no_recovery"


async def reload(recovery: Recovery) -> str:
    """Look into the store for tokens of another process; a flight that ended meanwhile brought newer ones, too."""
    refused = recovery.engine.session
    await recovery.engine.reload()
    return "store_unchanged" if recovery.engine.session.has_same_access_as(refused) else "store_changed"


async def refresh(recovery: Recovery) -> str:
    """Ask the issuer, but for a moment after it could not be asked: each 401 would wait half a minute again."""
    try:
        if fault := recovery.engine.pause_reason:
            raise fault
        await recovery.engine.refresh()
    except AuthError as error:
        recovery.error = error
        return "refresh_failed"
    return "refreshed"


async def ask_parent(recovery: Recovery) -> str:
    """Ask the parent application."""
    try:
        await recovery.engine.ask_parent()
    except AuthError as error:
        recovery.error = error
        return "parent_failed"
    return "parent_answered"


STEPS: Mapping[str, Step] = {"diagnose": diagnose, "reload": reload, "refresh": refresh, "ask_parent": ask_parent}


class RecoveryPlan(msgspec.Struct, frozen=True):
    """A table and a step for each of its states that is not final."""

    table: Table = RECOVERY_TABLE
    steps: Mapping[str, Step] = msgspec.field(default_factory=lambda: dict(STEPS))


class RecoveryMachine:
    """Runs recoveries by a plan. One machine serves all."""

    def __init__(self, plan: RecoveryPlan) -> None:
        self._plan = plan
        self._machine = shared_machine(plan.table)

    async def run(self, engine: Recoverable, refused_generation: int) -> None:
        """Recover from a 401 for a token of `refused_generation`. Returning means: retry with the current tokens.

        Raises:
            AuthError: the reason why there is nothing to retry with.
        """
        recovery = Recovery(engine, refused_generation)
        while recovery.state in self._plan.steps:
            trigger = await self._plan.steps[recovery.state](recovery)
            self._machine.fire(recovery, trigger)
        if recovery.state != "retry":
            raise recovery.error or RecoveryExhausted("the backend refused the request, and nothing is left to try")
