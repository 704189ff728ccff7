"""Creates the flows of one engine, and connects them."""

from random import Random

import msgspec

from authstate.engine.clock import SystemClock
from authstate.engine.flows.background import Backgrounds
from authstate.engine.flows.engine_life import EngineLife
from authstate.engine.flows.engine_locks import EngineLocks
from authstate.engine.flows.event_streams import EventStreams
from authstate.engine.flows.external_tokens import ExternalTokenRefresher
from authstate.engine.flows.fresh_authorization import FreshAuthorization
from authstate.engine.flows.login_attempts import LoginAttempts
from authstate.engine.flows.pending_tokens import PendingTokens
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.revocations import Revocations
from authstate.engine.flows.session_changes import SessionChanges
from authstate.engine.flows.store_sync import StoreSync
from authstate.engine.flows.token_expiry import TokenExpiry
from authstate.engine.flows.token_identity import TokenIdentity
from authstate.engine.flows.token_lifetime import TokenLifetime
from authstate.engine.flows.token_recovery import TokenRecovery
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.machines.refresh_trace import EngineEnded, TraceStep
from authstate.engine.model.arguments import ensure_instance, ensure_methods
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken, StaticCredentials, read_static_credentials
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.events import Listeners, Subscriptions
from authstate.engine.model.policy import Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import Trigger
from authstate.engine.ports import Clock, CredentialStore, ExternalTokenSource, TokenAuthority

_MAX_LOOKS = 3  # of one request for a token, while the session keeps changing
_CHANCE = Random()  # of all engines that are given none
_A_STORE = "a CredentialStore, such as AuthJsonStore(folder). `open_engine` opens the store that is configured"


class EngineParts(msgspec.Struct, frozen=True):
    """What an engine is made of. See the arguments of `AuthEngine`."""

    store: CredentialStore
    authority: TokenAuthority
    parent: ExternalTokenSource | None = None
    policy: Policy | None = None
    clock: Clock | None = None
    random: Random | None = None
    settings: RefreshSettings | None = None
    api_key: ApiKey | None = None
    recovery: RecoveryPlan | None = None

    def __post_init__(self) -> None:
        """Refuse parts of another type: an authority, for example, would fail only at the first refresh.

        Raises:
            TypeError: a part has a wrong type.
        """
        for given, methods, name, wanted in (
            (self.store, ("load", "claim_on", "locked", "describe"), "store", _A_STORE),
            (self.authority, ("refresh", "revoke"), "authority", "a TokenAuthority, such as an HttpTokenAuthority"),
        ):
            ensure_methods(given, methods, name, wanted)
        for value, kind, name, wanted in (
            (self.policy, Policy, "policy", "a Policy"),
            (self.settings, RefreshSettings, "settings", "a RefreshSettings"),
            (self.api_key, ApiKey, "api_key", "ApiKey.parse(text)"),
            (self.recovery, RecoveryPlan, "recovery", "a RecoveryPlan"),
        ):
            if value is not None:
                ensure_instance(value, kind, name, wanted)


class EngineFlows:
    """The flows of one engine. Each has its own file.

    Args:
        parts: what the engine is made of.
    """

    def __init__(self, parts: EngineParts) -> None:
        store, authority = parts.store, parts.authority
        clock = parts.clock or SystemClock()
        settings = parts.settings or RefreshSettings()
        random = parts.random or _CHANCE
        listeners, locks = Listeners(), EngineLocks()
        pending = PendingTokens(clock, settings.save_waits, listeners.warn)
        self.trace: Subscriptions[TraceStep] = Subscriptions()
        refresher = Refresher(store, authority, clock, random, settings, pending, listeners.warn, self.trace)
        machine = AuthMachine(parts.policy or Policy(), listeners)
        self.expiry: TokenExpiry = TokenExpiry(
            machine, clock, settings.window, listeners, lambda: self.streams.are_open
        )
        self.streams: EventStreams = EventStreams(lambda: machine.session, self.expiry.watch)
        listeners.subscribe(self.streams.put)
        self.life: EngineLife = EngineLife()
        self.settings = settings
        self.listeners = listeners
        self.machine = machine
        self.scheduler: RefreshScheduler = RefreshScheduler(
            machine, store, refresher, pending, locks, clock, settings, listeners
        )
        self.fresh: FreshAuthorization = FreshAuthorization(machine, clock, settings, listeners)
        self.backgrounds: Backgrounds = Backgrounds(self.life, self.scheduler, clock, listeners)
        self.external: ExternalTokenRefresher = ExternalTokenRefresher(
            parts.parent, machine, clock, settings.parent_timeout, listeners
        )
        self.recovery: TokenRecovery = TokenRecovery(
            parts.recovery or RecoveryPlan(), machine, self.scheduler, self.external, self.trace
        )
        self.lifetime: TokenLifetime = TokenLifetime(machine, self.scheduler, clock, settings)
        self.revocations: Revocations = Revocations(authority, listeners)
        self.logins: LoginAttempts = LoginAttempts(clock, listeners)
        self.identity: TokenIdentity = TokenIdentity(machine, authority, clock, settings.pause, listeners)
        self.store_sync: StoreSync = StoreSync(
            machine, store, self.scheduler, pending, locks, self.identity, self.logins, listeners, parts.api_key
        )
        self.changes: SessionChanges = SessionChanges(
            machine, store, self.scheduler, pending, locks, self.revocations, self.logins, listeners
        )

    @property
    def are_idle(self) -> bool:
        """Whether nothing is under way: no refresh, no question to the issuer, no sign-in and no revocation."""
        is_asking = not self.identity.is_idle or self.revocations.are_under_way
        return self.scheduler.is_idle and not is_asking and self.logins.current is None

    async def identified(self, key: StaticCredentials | str) -> StaticCredentials:
        """Return a key, or a token with its owner: the issuer is asked, unless the token is refused anyway."""
        key = read_static_credentials(key)  # in the place of the text, which a traceback would show
        if not isinstance(key, PersonalAccessToken):
            return key
        self.machine.check(Trigger.USE_API_KEY, key)
        return await self.identity.identify(key)

    async def authorization(self, min_lifetime: float) -> Authorization:
        """Return a token that can be used. See `AuthEngine.authorization`."""
        for _ in range(_MAX_LOOKS):
            self.life.ensure_usable()  # the engine may have been closed since the last look
            await self.identity.ensure()
            if await self.scheduler.prepare_request():
                break
        if min_lifetime > 0:
            await self.lifetime.ensure(min_lifetime)
        session = self.machine.session
        if session.credentials is None and session.failure is None:
            raise NotSignedIn(self.store_sync.why_nobody())
        return Authorization.of(session)

    async def close(self, grace: float) -> None:
        """Wait for a refresh token that is being spent, at most `grace` seconds, and cancel everything else."""
        self.logins.supersede("the program ends")
        self.backgrounds.close()
        self.recovery.close()
        self.external.close()
        self.identity.close()
        self.expiry.close()
        left = 0.0
        try:
            left = await self.scheduler.close(grace)
            await self.revocations.close(min(left, self.settings.revoke_grace))
        finally:
            self.trace.emit(EngineEnded())
            await self.streams.close(left)
