"""The 401 recovery: what to do when the backend refuses a token, as a small table of its own.

A recovery starts in `diagnose`. Each state that is not final has a step: a coroutine function that looks or acts, and
returns the trigger to fire. The recovery ends in `retry` (there is a newer token: send the request again) or in
`exhausted`. To add a mode, add rows and steps to the plan; the loop that runs them does not change.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.machines.words import Words
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.engine.model.errors import AuthError, RecoveryExhausted
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

RECOVERY_TABLE = Table(
    name="recovery",
    title="401 recovery",
    states=("diagnose", "reload", "refresh", "ask_parent", "retry", "exhausted"),
    initial="diagnose",
    rows=(
        Row("generation_moved_on", ("diagnose",), "retry", "newer tokens are there already"),
        Row(
            "no_recovery",
            ("diagnose",),
            "exhausted",
            "a static credential or no login: nothing can be renewed",
        ),
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

RECOVERY_WORDS = Words(
    states={
        "diagnose": "The backend answered 401, and nothing was looked at yet.",
        "reload": "The store is read: another process may have refreshed.",
        "refresh": "The issuer is asked for new tokens, by this recovery or by a refresh that it joined.",
        "ask_parent": "The parent application is asked for new tokens.",
        "retry": "There are newer tokens: the request is sent again with them.",
        "exhausted": "There is nothing to retry with, and the caller gets the reason.",
    },
    timeouts={
        "refresh": "no try starts later than 30 seconds after the first; then `refresh_failed`",
        "ask_parent": "the parent application has 10 seconds to answer; then `parent_failed`",
    },
)


class RecoveryActions(Protocol):
    """What a step may look at and do."""

    @property
    def session(self) -> Session:
        """The current snapshot."""
        ...

    async def reload(self) -> bool:
        """Adopt newer tokens of the same account from the store. Returns whether there were any."""
        ...

    async def refresh(self) -> None:
        """Refresh a managed login now. For a short time after the issuer could not be asked, raise that reason instead:
        otherwise each 401 would wait half a minute again.

        Raises PermanentRefreshError or TransientAuthError.
        """

    async def ask_parent(self) -> None:
        """Ask the parent application for new tokens. Raises ParentUnavailable."""


class Recovery:
    """One recovery that is under way: the model that the table moves.

    Args:
        actions: what its steps may do.
        refused_generation: the generation of the session whose token the backend refused.
    """

    def __init__(self, actions: RecoveryActions, refused_generation: int) -> None:
        self.state: str = RECOVERY_TABLE.initial
        self.actions = actions
        self.refused_generation = refused_generation
        self.error: AuthError | None = None
        """Why there is nothing to retry with. A step sets it; the recovery raises it if it ends in `exhausted`."""


Step = Callable[[Recovery], Awaitable[str]]


async def diagnose(recovery: Recovery) -> str:
    """Choose the way by the generation and the state."""
    session = recovery.actions.session
    if session.generation != recovery.refused_generation:
        return "generation_moved_on"
    if session.state in (AuthState.CHATGPT, AuthState.REFRESH_DEAD):
        return "managed_tokens"
    if session.state is AuthState.EXTERNAL_TOKENS:
        return "parent_owned_tokens"
    match session.credentials:
        case ApiKey():
            why = "the backend refused the API key: give a valid one"
        case PersonalAccessToken():
            why = "the backend refused the personal access token: create another one, and sign in with it"
        case _:
            why = "the backend refused the request, and nobody is signed in: sign in first"
    recovery.error = RecoveryExhausted(why)
    return "no_recovery"


async def reload(recovery: Recovery) -> str:
    """Read the store for tokens of another process. A refresh that ends meanwhile brings newer ones, too."""
    refused = recovery.actions.session
    await recovery.actions.reload()
    return "store_unchanged" if recovery.actions.session.has_same_access_as(refused) else "store_changed"


async def refresh(recovery: Recovery) -> str:
    """Ask the issuer."""
    try:
        await recovery.actions.refresh()
    except AuthError as error:
        recovery.error = error
        return "refresh_failed"
    return "refreshed"


async def ask_parent(recovery: Recovery) -> str:
    """Ask the parent application."""
    try:
        await recovery.actions.ask_parent()
    except AuthError as error:
        recovery.error = error
        return "parent_failed"
    return "parent_answered"


STEPS: Mapping[str, Step] = {"diagnose": diagnose, "reload": reload, "refresh": refresh, "ask_parent": ask_parent}


class RecoveryPlan(msgspec.Struct, frozen=True):
    """A table, and a step for each of its states that is not final."""

    table: Table = RECOVERY_TABLE
    steps: Mapping[str, Step] = msgspec.field(default_factory=lambda: dict(STEPS))

    async def run(self, actions: RecoveryActions, refused_generation: int) -> None:
        """Recover from a 401 for a token of `refused_generation`. Returning means: retry with the current tokens.

        Raises:
            AuthError: the reason why there is nothing to retry with.
        """
        machine = shared_machine(self.table)
        recovery = Recovery(actions, refused_generation)
        while recovery.state in self.steps:
            trigger = await self.steps[recovery.state](recovery)
            machine.fire(recovery, trigger)
        if recovery.state != "retry":
            raise recovery.error or RecoveryExhausted("the backend refused the request, and nothing is left to try")
