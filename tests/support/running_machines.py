"""The running machine of each table, driven by the names of its triggers: the code that applications use."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from support.child_in_memory import tokens

from authstate.adapters.child.token_states import ChildTokens
from authstate.adapters.oauth.browser_progress import BrowserProgress
from authstate.engine.flows.engine_life import EngineLife
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.machines.engine_life import LifeState
from authstate.engine.machines.lease import Lease, LeaseState, LeaseTrigger
from authstate.engine.machines.login_attempt import LOGIN_TABLE, LoginAttempt, LoginFlow
from authstate.engine.machines.recovery import RECOVERY_TABLE
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, RefreshClaimTrigger
from authstate.engine.machines.table import shared_machine
from authstate.engine.machines.words import IGNORED
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Listeners
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import make_external_tokens, make_tokens

_EXTERNAL, _TOKENS = make_external_tokens(), make_tokens()


class RunningMachine(Protocol):
    """One machine in one state."""

    @property
    def state(self) -> str:
        """May be set, to put the machine into any state."""
        ...

    @state.setter
    def state(self, state: str) -> None: ...

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        """Do what fires a trigger. Return whether something happened. Raise AuthError if it is refused.

        Args:
            agrees: whether the guard is to agree, if there is one.
        """
        ...


class RunningLogin:
    """`AuthMachine`, with credentials that fit the trigger."""

    _OFFERS: Mapping[str, Credentials | Failure | None] = {
        "use_api_key": ApiKey.parse("sk-1"),
        "complete_chatgpt_login": _TOKENS,
        "use_external_tokens": _EXTERNAL,
        "log_out": None,
        "credentials_refused": Failure("a policy"),
        "refresh_rejected": Failure("dead"),
    }

    def __init__(self) -> None:
        self.machine = AuthMachine(Policy(), Listeners())

    @property
    def state(self) -> str:
        return self.machine.state

    @state.setter
    def state(self, state: str) -> None:
        held = {"api_key": ApiKey.parse("sk-0"), "external_tokens": _EXTERNAL, "logged_out": None}.get(state, _TOKENS)
        self.machine.state, self.machine.session = AuthState(state), Session(AuthState(state), held, None, 1)

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        forced = LoginMethod.CHATGPT if trigger == "use_api_key" else LoginMethod.API
        self.machine.policy = Policy() if agrees else Policy(forced)
        if trigger == "tokens_refreshed":
            make = make_external_tokens if self.state == "external_tokens" else make_tokens
            offer: Credentials | Failure | None = make() if agrees else make(account_id="org-2")
        else:
            offer = self._OFFERS[trigger]
        self.machine.fire(Trigger(trigger), offer)
        return True


class RunningRecovery:
    """A recovery, whose steps only say which trigger follows: the machine is the whole of it."""

    def __init__(self) -> None:
        self.state: str = RECOVERY_TABLE.initial

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        shared_machine(RECOVERY_TABLE).fire(self, trigger)
        return True


class RunningAttempt:
    """`LoginAttempt`."""

    def __init__(self) -> None:
        self.attempt = LoginAttempt("id", LoginFlow.BROWSER, shared_machine(LOGIN_TABLE), Listeners())

    @property
    def state(self) -> str:
        return self.attempt.state

    @state.setter
    def state(self, state: str) -> None:
        self.attempt.state = state

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        if trigger == "authorized":
            self.attempt.authorized()
        elif trigger == "stored":
            self.attempt.storing()
            self.attempt.stored()
        else:
            return self.attempt.end(trigger, "because")
        return True


class RunningClaim:
    """`RefreshClaim`."""

    def __init__(self) -> None:
        self.claim = RefreshClaim("f")

    @property
    def state(self) -> str:
        return self.claim.state

    @state.setter
    def state(self, state: str) -> None:
        self.claim = RefreshClaim("f", RefreshClaimState(state))

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        self.claim = self.claim.after(RefreshClaimTrigger(trigger), 1.0)
        return True


class RunningLease:
    """`Lease`."""

    def __init__(self) -> None:
        self.lease = Lease("id", "digest", "account")

    @property
    def state(self) -> str:
        return self.lease.state

    @state.setter
    def state(self, state: str) -> None:
        self.lease = Lease("id", "digest", "account", state=LeaseState(state))

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        self.lease = self.lease.after(LeaseTrigger(trigger))
        return True


class RunningLife:
    """`EngineLife`. What is between `start` and `started` or `start_ended` is the body of `starting`.

    A body does not survive the end of an event loop, so each trigger repeats those before it.
    """

    def __init__(self) -> None:
        self._first: str = EngineLife().state
        self._fired: tuple[str, ...] = ()
        self._state = self._first

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._first, self._fired, self._state = LifeState(state), (), state

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        before = self._state
        self._state = asyncio.run(self._after((*self._fired, trigger)))
        self._fired = (*self._fired, trigger)
        return self._state != before or trigger == "close"

    async def _after(self, triggers: tuple[str, ...]) -> str:
        """The state after these triggers."""
        life = EngineLife()
        life.state = self._first
        body: AbstractAsyncContextManager[None] | None = None
        for trigger in triggers:
            if trigger == "close":
                life.close()
            elif trigger == "start":
                body = life.starting()
                await body.__aenter__()
            else:
                body = body or await self._begun(life)
                failure = ZeroDivisionError() if trigger == "start_ended" else None
                await body.__aexit__(type(failure) if failure else None, failure, None)
                body = None
        return life.state

    async def _begun(self, life: EngineLife) -> AbstractAsyncContextManager[None]:
        """The body of a start that has begun, whatever the state is."""
        before, life.state = life.state, LifeState.NEW
        body = life.starting()
        await body.__aenter__()
        life.state = before
        return body


class RunningBrowserLogin:
    """`BrowserProgress`."""

    def __init__(self) -> None:
        self.progress = BrowserProgress()

    @property
    def state(self) -> str:
        return self.progress.state

    @state.setter
    def state(self, state: str) -> None:
        self.progress.state = state

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        return self.progress.fire(trigger)


class RunningChild:
    """`ChildTokens`."""

    def __init__(self) -> None:
        self.child = ChildTokens()

    @property
    def state(self) -> str:
        return self.child.state

    @state.setter
    def state(self, state: str) -> None:
        self.child.state = state

    def fire(self, trigger: str, *, agrees: bool = True) -> bool:
        if trigger == "changed":
            self.child.sent = None
            return self.child.compare(tokens())
        if trigger in ("not_taken", "retry_due", "close"):
            getattr(self.child, trigger)()
        else:
            getattr(self.child, trigger)(tokens())
        return True


MACHINES: Mapping[str, Callable[[], RunningMachine]] = {
    "auth_state": RunningLogin,
    "recovery": RunningRecovery,
    "login_attempt": RunningAttempt,
    "refresh_claim": RunningClaim,
    "lease": RunningLease,
    "engine_life": RunningLife,
    "browser_login": RunningBrowserLogin,
    "child_tokens": RunningChild,
}
"""By the name of the table."""


def refusal_of(machine: RunningMachine, trigger: str, *, agrees: bool = True) -> str | None:
    """Fire a trigger. Return the name of the error, `IGNORED`, or None if it happened."""
    try:
        return None if machine.fire(trigger, agrees=agrees) else IGNORED
    except AuthError as error:
        return type(error).__name__
