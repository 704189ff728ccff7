"""The reference model of the account API: what a client must see, made from the rows of the state table.

It says what a trigger leads to, what follows from a change in the store, and what is shown. It knows no requests.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from authstate.adapters.conformance.held import External, Held, Key, Managed, violation
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.model.policy import Policy
from authstate.engine.model.states import AuthState, Trigger

PEOPLE: Final = {"org-1": ("ada@example.com", "plus"), "org-2": ("bob@example.com", "team")}
"""The email and the plan of the person in each workspace."""

MODES: Final[dict[AuthState, str | None]] = {
    AuthState.LOGGED_OUT: None,
    AuthState.API_KEY: "apikey",
    AuthState.CHATGPT: "chatgpt",
    AuthState.EXTERNAL_TOKENS: "chatgptAuthTokens",
    AuthState.REFRESH_DEAD: "chatgpt",
}
"""The auth mode of each state on the wire."""


def login_of(workspace: str) -> dict[str, str]:
    """Return the arguments of `LoopbackIssuer.seed` for the person of a workspace."""
    email, plan = PEOPLE[workspace]
    return {"account_id": workspace, "email": email, "plan": plan, "user_id": f"user-{workspace}"}


class Remedy(StrEnum):
    """What a request to the backend leads to: the ways through the table of the 401 recovery."""

    NO_LOGIN = "it is refused: there is no ChatGPT account"
    UNKNOWN = "the login is dead, and its access token may still be valid"
    NOT_NEEDED = "the backend accepts the token"
    RELOAD = "the tokens that another process stored are used"
    REFRESH = "the refresh token is sent"
    REJECTED = "the issuer refuses the refresh token, now or before"
    POSTPONED = "the refresh token is sent, or the request fails, because the issuer refused for now shortly before"
    PARENT = "the parent is asked"


@dataclass
class ReferenceAccount:
    """The session and the store as they must be.

    Attributes:
        covered: the cells of the table that were tried, whatever the table says of them.
        revoked_tokens: refresh tokens that the issuer would refuse.
        refused_tokens: refresh tokens that the issuer refused when they were sent.
        refused_access: access tokens that the backend refuses.
        was_refused_for_now: whether the last refresh of this process failed for now: a 401 may not cause another soon.
    """

    policy: Policy = field(default_factory=Policy)
    state: AuthState = AuthState.LOGGED_OUT
    held: Held = None
    stored: Key | Managed | None = None
    covered: set[tuple[AuthState, Trigger]] = field(default_factory=set)
    revoked_tokens: set[str] = field(default_factory=set)
    refused_tokens: set[str] = field(default_factory=set)
    refused_access: set[str] = field(default_factory=set)
    was_refused_for_now: bool = False

    def fire(self, trigger: Trigger, held: Held = None) -> bool:
        """Fire a trigger. Returns False, and changes nothing, if the table or the policy refuses it."""
        self.covered.add((self.state, trigger))
        target = AUTH_TABLE.target(self.state, trigger)
        if target is None or (held is not None and violation(self.policy, held)):
            return False
        self.state = AuthState(target)
        if trigger is not Trigger.REFRESH_REJECTED:  # which keeps the same credentials
            self.held = held
        return True

    def sign_in(self, held: Key | Managed) -> bool:
        """Sign in and store. Returns False if it is refused."""
        accepted = self._use(held)
        if accepted:
            self.stored = held
        return accepted

    def log_out(self) -> None:
        """Sign out, and delete what is stored."""
        self.fire(Trigger.LOG_OUT)
        self.stored = None

    def start(self) -> None:
        """Start a process: nothing is remembered but what is stored."""
        self.state, self.held, self.was_refused_for_now = AuthState.LOGGED_OUT, None, False
        self.follow()

    def follow(self) -> None:
        """Apply what another process stored."""
        found, held = self.stored, self.held
        if self.state is AuthState.EXTERNAL_TOKENS or found == held:
            return
        if isinstance(found, Managed) and isinstance(held, Managed) and found.workspace == held.workspace:
            if self.state is AuthState.REFRESH_DEAD:
                self.fire(Trigger.TOKENS_REFRESHED, found)
        elif found is None:
            self.fire(Trigger.LOG_OUT)
        elif not self._use(found):
            self.fire(Trigger.CREDENTIALS_REFUSED)

    def _use(self, held: Key | Managed) -> bool:
        return self.fire(Trigger.USE_API_KEY if isinstance(held, Key) else Trigger.COMPLETE_CHATGPT_LOGIN, held)

    def adopt(self) -> bool:
        """Use newer tokens of the same account from the store, as a refresh does first. Returns whether there were."""
        newer = self.state is AuthState.CHATGPT and self.stored != self.held
        return newer and self.fire(Trigger.TOKENS_REFRESHED, self.stored)

    def must_send(self) -> bool:
        """Whether a refresh sends the refresh token now."""
        return isinstance(self.held, Managed) and (
            self.state is AuthState.CHATGPT and self.held.refresh not in self.refused_tokens
        )

    def remedy(self) -> Remedy:
        """Return what a request to the backend must lead to now."""
        held, stored = self.held, self.stored
        if not isinstance(held, Managed | External):
            return Remedy.NO_LOGIN
        if held.access not in self.refused_access:
            return Remedy.UNKNOWN if self.state is AuthState.REFRESH_DEAD else Remedy.NOT_NEEDED
        if isinstance(held, External):
            return Remedy.PARENT
        if isinstance(stored, Managed) and stored.access not in {held.access, *self.refused_access}:
            return Remedy.RELOAD
        if self.state is AuthState.REFRESH_DEAD or held.refresh in self.refused_tokens:
            return Remedy.REJECTED
        if self.was_refused_for_now:
            return Remedy.POSTPONED
        return Remedy.REJECTED if held.refresh in self.revoked_tokens else Remedy.REFRESH

    @property
    def is_stored_refused(self) -> bool:
        """Whether somebody is signed in in the store whom the policy forbids."""
        return self.state is AuthState.LOGGED_OUT and self.stored is not None

    # What is shown

    @property
    def mode(self) -> str | None:
        """`authMode` and `authMethod`."""
        return MODES[self.state]

    @property
    def account(self) -> dict[str, Any] | None:
        """`account` of `account/read`."""
        if self.state is AuthState.API_KEY:
            return {"type": "apiKey"}
        if isinstance(self.held, Managed | External) and self.state is not AuthState.REFRESH_DEAD:
            email, plan = PEOPLE[self.held.workspace or ""]
            return {"type": "chatgpt", "email": email, "planType": plan}
        return None

    @property
    def plan(self) -> str | None:
        """`planType` of `account/updated`."""
        return None if self.account is None else self.account.get("planType")

    @property
    def token(self) -> str | None:
        """`authToken` of `getAuthStatus`."""
        if self.held is None or self.state is AuthState.REFRESH_DEAD:
            return None
        return self.held.key if isinstance(self.held, Key) else self.held.access
