"""The reference model: what engines on one store must do, written as simply as possible, without tasks, locks or files.

The model first says which request it expects, and only then receives the issuer's answer. So the test fails on a
request that the model does not expect, and on an expected request that no engine sent.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from authstate.adapters.conformance.held import External, Held, Key, Managed, violation
from authstate.engine.model.credentials import ExternalTokens
from authstate.engine.model.errors import (
    ExternalTokensActive,
    IssuerUnavailable,
    LoginMethodForbidden,
    NotSignedIn,
    ParentUnavailable,
    PermanentRefreshError,
    RecoveryExhausted,
    RefreshInDoubt,
    StoreUnavailable,
    TransientAuthError,
)
from authstate.engine.model.jwt_claims import expiry_of
from authstate.engine.model.policy import Policy
from authstate.engine.ports import PartialRefresh, RefreshedTokens

WINDOW, BLOCKING, SETTLE, PAUSE, STALE_AFTER = 300.0, 30.0, 60.0, 30.0, 8 * 86_400.0
LONGEST_PAUSE = 63
"""The most reads of the store that are left out after reads that failed."""
RECOVERIES = 3
"""The most recoveries for one request."""

Error = type[Exception] | None


class Answer(NamedTuple):
    """A request to the issuer: which engine sent which refresh token, and what the answer was."""

    engine: str
    token: str
    outcome: RefreshedTokens | Exception


@dataclass
class World:
    """What all engines share: the store, the issuer and the time.

    Attributes:
        saves: how often the store was written.
        deletes: how often the stored login was deleted.
        broken: the operations of the store that fail: "load", "lock", "prepare", "save", "delete".
        live: the refresh tokens that the issuer accepts.
        dead: the reason for each refresh token that the issuer refuses.
        faults: the faults with which the issuer answers next.
        partial: how many of the next answers lack an access token.
        revoked: the refresh tokens that were revoked, in order.
    """

    now: float
    monotonic: float = 0.0
    stored: Key | Managed | None = None
    saves: int = 0
    deletes: int = 0
    broken: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    dead: dict[str, str] = field(default_factory=dict)
    claimed_spent: set[str] = field(default_factory=set)
    """Refresh tokens with the claim "spent": the tokens that they were exchanged for are stored."""
    claimed_dead: set[str] = field(default_factory=set)
    """Refresh tokens with the claim "dead": the issuer refused them permanently."""
    claimed: set[str] = field(default_factory=set)
    """Refresh tokens that were sent and whose answer is not stored. They may be spent."""
    faults: deque[IssuerUnavailable] = field(default_factory=deque)
    partial: int = 0
    revoked: list[str] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)
    """The requests of this step, with the issuer's answers, that the model has not expected yet."""

    def save(self, what: Key | Managed) -> None:
        """Write the store."""
        self.stored, self.saves = what, self.saves + 1

    def revoke(self, tokens: Held) -> None:
        """Revoke the refresh token of these credentials, if they have one."""
        if isinstance(tokens, Managed):
            self.revoked.append(tokens.refresh)
            if tokens.refresh in self.live:
                self.live.discard(tokens.refresh)
                self.dead[tokens.refresh] = "revoked"


@dataclass
class Engine:
    """The engine of one process: its session, and what it remembers besides."""

    name: str
    world: World
    policy: Policy = field(default_factory=Policy)
    state: str = "logged_out"
    held: Held = None
    reason: str | None = None
    refused: tuple[object, ...] | None = None
    generation: int = 0
    pending_write: Managed | None = None
    pending_for: str = ""
    """The refresh token that was exchanged for the pending tokens."""
    sent_dead: set[str] = field(default_factory=set)
    """Refresh tokens that were refused permanently. This process does not send them again."""
    spent: set[str] = field(default_factory=set)
    """Refresh tokens that this process exchanged. It does not use them again."""
    refused_access: set[str] = field(default_factory=set)
    """Access tokens that the backend refused."""
    left_out: int = 0
    """How many reads of the store are to be left out, because it could not be read."""
    pause: int = 0
    settled_until: float = float("-inf")
    paused_until: float = float("-inf")
    doubted: str | None = None
    """An access token whose refresh token may be spent. It is used as long as possible."""
    pause_error: Error = None
    """Why the issuer could not be asked. During the pause, a 401 fails with this error at once."""
    parent: deque[ExternalTokens | Exception] = field(default_factory=deque)

    def enter(self, state: str, held: Held, reason: str | None = None) -> None:
        self.state, self.held, self.reason, self.generation = state, held, reason, self.generation + 1
        self.refused = None
        self.pause_error = None

    def refuse(self, held: Held) -> None:
        """Sign out because the policy forbids these credentials. `refused` is what the message names."""
        self.enter("logged_out", None)
        if self.forbidden(held) is LoginMethodForbidden:
            self.refused = (self.policy.forced_login_method,)
        else:
            assert isinstance(held, Managed | External)
            self.refused = (self.policy.forced_workspaces, held.workspace)

    # Expiry

    def expired(self) -> bool:
        """Whether the access token has expired by the wall clock."""
        return (
            isinstance(self.held, Managed | External)
            and self.held.expires is not None
            and (self.held.expires <= self.world.now)
        )

    def worn_out(self) -> bool:
        """Whether the access token is unusable: it has expired, or the backend refused it.

        A new token that looked expired when it arrived is taken as valid for a while, because the clock may be wrong.
        """
        held = self.held
        if not isinstance(held, Managed):
            return False
        looked_expired = held.given is None or (held.expires is not None and held.expires <= held.given)
        is_taken_for_good = looked_expired and self.world.monotonic < self.settled_until
        return (self.expired() and not is_taken_for_good) or held.access in self.refused_access

    def urgency(self) -> str:
        """When to refresh: "now" blocks callers, "soon" is in the background, "none" not at all."""
        if self.state != "chatgpt" or not isinstance(self.held, Managed) or self.world.monotonic < self.settled_until:
            return "none"
        if self.doubted == self.held.access and not self.worn_out():
            return "none"
        if self.held.expires is None:
            return "now" if self.world.now - (self.held.given or self.world.now) > STALE_AFTER else "none"
        left = self.held.expires - self.world.now
        if left <= BLOCKING:
            return "now"
        return "soon" if left <= WINDOW and self.world.monotonic >= self.paused_until else "none"

    # Start and changes by other processes

    def start(self) -> None:
        """Load the stored login."""
        if "load" in self.world.broken or self.world.stored is None:
            return
        if self.forbidden(self.world.stored):
            self.refuse(self.world.stored)
        else:
            self.enter("api_key" if isinstance(self.world.stored, Key) else "chatgpt", self.world.stored)

    def restore(self) -> None:
        """Load the stored login if the session is signed out."""
        if self.state != "logged_out" or "load" in self.world.broken or self.world.stored is None:
            return
        if self.forbidden(self.world.stored) and self.refused is not None:
            before, generation = self.refused, self.generation
            self.refuse(self.world.stored)
            if self.refused == before:
                self.generation = generation
        else:
            self.start()

    def follow(self) -> None:
        """Apply a change that another process made to the store."""
        found = self.world.stored
        if self.state == "external_tokens" or self.pending_write is not None:
            return
        if self.left_out:
            self.left_out -= 1
            return
        if "load" in self.world.broken:
            self.left_out, self.pause = self.pause, min(2 * self.pause + 1, LONGEST_PAUSE)
            return
        self.pause = 0
        if self.is_ours(found):
            if self.state == "refresh_dead":
                self.reload()
        elif self.held is None:
            self.restore()
        elif found is None:
            self.enter("logged_out", None)
        elif found != self.held:
            self.start()

    def forbidden(self, held: Held) -> Error:
        """The error if the policy forbids these credentials, otherwise None."""
        return violation(self.policy, held)

    # Signing in and out

    def sign_in(self, what: Key | Managed) -> Error:
        """Store new credentials and use them."""
        if self.state == "external_tokens":
            return ExternalTokensActive
        if error := self.forbidden(what):
            return error
        if self.world.broken & {"lock", "save"}:
            return StoreUnavailable
        replaced = self.newest()
        self.world.save(what)
        self.pending_write = None
        self.enter("api_key" if isinstance(what, Key) else "chatgpt", what)
        self.world.revoke(replaced)
        return None

    def log_out(self) -> Error:
        """Delete and revoke what is stored."""
        if self.state == "external_tokens" and "load" not in self.world.broken and self.world.stored is None:
            replaced: Held = self.pending_write
            self.pending_write = None
            self.enter("logged_out", None)
            self.world.revoke(replaced)
            return None
        if self.world.broken & {"lock", "delete"}:
            return StoreUnavailable
        replaced = self.newest()
        self.world.stored, self.world.deletes, self.pending_write = None, self.world.deletes + 1, None
        self.enter("logged_out", None)
        self.world.revoke(replaced)
        return None

    def newest(self) -> Held:
        """The newest credentials, which a login or logout replaces: the pending ones, or those of the store."""
        if self.pending_write is not None:
            return self.pending_write
        return None if "load" in self.world.broken else self.world.stored

    def use_external(self, tokens: External) -> Error:
        """Use the tokens of the parent application."""
        if error := self.forbidden(tokens):
            return error
        self.enter("external_tokens", tokens)
        return None

    def set_policy(self, policy: Policy) -> None:
        """Change the policy. Sign out if it forbids the current credentials."""
        self.policy = policy
        if self.held is not None and self.forbidden(self.held):
            self.refuse(self.held)

    # Refreshing

    def paused(self) -> Error:
        """The error during the pause after a failed refresh, otherwise None. No request is sent during it."""
        if self.pause_error is RefreshInDoubt and self.worn_out():
            return None  # the token in doubt is the only one left, so it is sent
        return self.pause_error if self.state == "chatgpt" and self.world.monotonic < self.paused_until else None

    def reload(self) -> bool:
        """Read the store and adopt newer tokens of the same account. Returns whether there were any."""
        if self.state not in ("chatgpt", "refresh_dead") or "load" in self.world.broken:
            return False
        found = self.world.stored
        if not self.is_ours(found) or same_material(found, self.held) or self.is_outdated(found):
            return False
        self.adopt(found)
        return True

    def is_ours(self, found: Held) -> bool:
        """Whether these are tokens of the account of the session."""
        return isinstance(found, Managed) and isinstance(self.held, Managed) and found.workspace == self.held.workspace

    def is_outdated(self, found: Held) -> bool:
        """Whether the refresh token of these is spent, as in a restored backup."""
        return isinstance(found, Managed) and found.refresh in self.spent | self.world.claimed_spent

    def adopt(self, found: Held) -> None:
        """Use the tokens that another process stored."""
        assert isinstance(found, Managed)
        self.pending_write = None
        self.enter("chatgpt", found)
        if abs(self.world.now - (found.given or self.world.now)) < SETTLE:
            self.settled_until = self.world.monotonic + SETTLE

    def refresh(self) -> Error:
        """Refresh as a caller asks for it. Returns the error that the caller gets."""
        if self.state == "refresh_dead":
            dead = self.held
            if not self.reload():
                return PermanentRefreshError
            if not has_same_access(self.held, dead):
                return None
        return self.run_refresh() if self.state == "chatgpt" else None

    def run_refresh(self, install: Callable[[], bool] = lambda: True) -> Error:
        """Refresh. `install` returns whether the session still uses the tokens that were refreshed."""
        error = self.refresh_until_new_access(install)
        if error is not None and issubclass(error, TransientAuthError):
            self.paused_until = self.world.monotonic + PAUSE
            self.pause_error = error if issubclass(error, IssuerUnavailable) else None
        return error

    def refresh_until_new_access(self, install: Callable[[], bool]) -> Error:
        """Refresh until the access token is new, because an answer may contain only a new refresh token."""
        while isinstance(before := self.held, Managed):
            error = self.refresh_once(install)
            if error is not None or self.held is before or not has_same_access(self.held, before):
                return error
        return None

    def refresh_once(self, install: Callable[[], bool]) -> Error:
        """Do one refresh: read the store, send the refresh token, store the answer."""
        held, world = self.held, self.world
        assert isinstance(held, Managed)
        if world.broken & {"lock", "load"}:
            return StoreUnavailable
        if not self.is_ours(world.stored):
            self.pending_write = None
            self.enter("refresh_dead", held, "account_changed")
            return PermanentRefreshError
        if not same_material(world.stored, held) and not self.is_outdated(world.stored):
            self.adopt(world.stored)
            return None
        fresh = self.pending_write
        if fresh is None:
            if held.refresh in self.sent_dead | self.spent | world.claimed_dead | world.claimed_spent:
                self.enter("refresh_dead", held, world.dead[held.refresh])
                return PermanentRefreshError
            if held.refresh in world.claimed and not self.worn_out():
                self.doubted = held.access
                return RefreshInDoubt
            if "prepare" in world.broken:
                return StoreUnavailable
            answered = self.ask(held)
            if not isinstance(answered, Managed):
                return answered
            fresh, self.pending_for = answered, held.refresh
        if "save" in world.broken:
            self.pending_write = fresh
            world.claimed.add(self.pending_for)
            return StoreUnavailable
        self.pending_write = None
        world.save(fresh)
        world.claimed_spent.add(self.pending_for)
        if install():
            whole = fresh.access != held.access  # an answer may lack an access token
            self.enter("chatgpt", fresh)
            if whole or abs(world.now - (fresh.given or world.now)) < SETTLE:
                self.settled_until = world.monotonic + SETTLE
        return None

    def ask(self, held: Managed) -> Managed | type[Exception]:
        """Take the next request from `World.answers`. It must be of this engine. Returns new tokens or the error."""
        while True:
            answer = self.world.answers.popleft() if self.world.answers else None
            assert answer is not None, f"{self.name} should have asked the issuer"
            assert (answer.engine, answer.token) == (self.name, held.refresh)
            if self.world.faults:
                fault = self.world.faults.popleft()
                assert answer.outcome is fault
                if fault.retry_after is not None:  # longer than a refresh waits
                    return IssuerUnavailable
                continue
            return self.settle(held, answer.outcome)

    def settle(self, held: Managed, outcome: RefreshedTokens | Exception) -> Managed | type[Exception]:
        """Process the issuer's answer to a refresh token. Returns the new tokens or the error."""
        world = self.world
        if held.refresh not in world.live:
            assert isinstance(outcome, PermanentRefreshError)
            self.sent_dead.add(held.refresh)
            world.claimed_dead.add(held.refresh)
            self.enter("refresh_dead", held, world.dead[held.refresh])
            assert outcome.reason == self.reason
            return PermanentRefreshError
        world.live.discard(held.refresh)
        world.dead[held.refresh] = "exhausted"
        self.spent.add(held.refresh)
        if world.partial:
            world.partial -= 1
            assert isinstance(outcome, PartialRefresh)
            rotated = held._replace(refresh=outcome.refresh_token.reveal())
            world.live.add(rotated.refresh)
            if "save" in world.broken:
                self.pending_write, self.pending_for = rotated, held.refresh
                world.claimed.add(held.refresh)
                return StoreUnavailable
            world.save(rotated)
            world.claimed_spent.add(held.refresh)
            self.pending_write = None
            return IssuerUnavailable
        assert isinstance(outcome, RefreshedTokens) and outcome.refresh_token is not None
        refresh, access = outcome.refresh_token.reveal(), outcome.access_token.reveal()
        world.live.add(refresh)
        return Managed(refresh, access, held.workspace, expiry_of(access), world.now)

    # Using the tokens

    def authorization(self) -> tuple[Error, str | None]:
        """The error, or the access token or API key that a caller gets."""
        for _ in range(3):
            if self.state == "refresh_dead":
                if self.reload():
                    continue
                return (PermanentRefreshError, None) if self.expired() else (None, self.token())
            urgency = self.urgency()
            if urgency == "none":
                break
            if urgency == "now" and (fault := self.paused()):
                if not self.expired():
                    break
                if self.reload():
                    continue
                return fault, None
            before = self.token()
            error = self.run_refresh()
            if urgency == "soon":
                return None, before
            if error is not None:
                if issubclass(error, TransientAuthError) and not self.expired():
                    break
                return error, None
        return (None, self.token()) if self.held is not None else (NotSignedIn, None)

    def token(self) -> str:
        """The API key or access token of the session."""
        assert self.held is not None
        return self.held.key if isinstance(self.held, Key) else self.held.access

    def check(self) -> None:
        """Do what the background check does: refresh if it is time."""
        if self.state == "refresh_dead":
            self.reload()
        elif self.urgency() == "now" and self.world.monotonic >= self.paused_until:
            self.run_refresh()

    def close(self) -> None:
        """Try once more to store what could not be stored."""
        if self.pending_write is not None and self.state == "chatgpt":
            self.run_refresh()

    def recover(self) -> Error:
        """Recover from a 401 for the current token. Returns the error that the caller gets."""
        if self.state == "external_tokens":
            return self.ask_parent()
        if self.state in ("chatgpt", "refresh_dead"):
            assert isinstance(self.held, Managed)
            self.refused_access.add(self.held.access)
            for _ in range(RECOVERIES):
                before = self.held
                self.reload()
                error = self.paused() or self.refresh() if has_same_access(self.held, before) else None
                if error is not None or not self.worn_out():
                    return error
            return None
        return RecoveryExhausted

    def ask_parent(self) -> Error:
        """Ask the parent application for new tokens."""
        answer = self.parent.popleft() if self.parent else None
        assert isinstance(self.held, External)
        if not isinstance(answer, ExternalTokens):
            return ParentUnavailable
        tokens = External.of(answer)
        if self.held.workspace not in (None, tokens.workspace):
            return ParentUnavailable
        if error := self.forbidden(tokens):
            return error
        self.enter("external_tokens", tokens)
        return None


def has_same_access(one: Held, other: Held) -> bool:
    """Whether both have the same access token."""
    return isinstance(one, Managed) and isinstance(other, Managed) and one.access == other.access


def same_material(one: Held, other: Held) -> bool:
    """Whether both have the same refresh token and access token."""
    assert isinstance(one, Managed) and isinstance(other, Managed)
    return (one.refresh, one.access) == (other.refresh, other.access)
