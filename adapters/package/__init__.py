"""Sign a person in once, and keep every process that acts for them authorized.

    import asyncio

    from authstate import open_engine

    async def main() -> None:
        async with open_engine() as engine:
            authorization = await engine.authorization()

Every public name of authstate is here or in `authstate.testing`. Each is loaded when
it is used first, so `import authstate` costs next to nothing. All other modules are internal.
"""

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, without the import
if TYPE_CHECKING:
    from authstate.adapters.assembly import EngineOptions, open_authority, open_engine, open_store
    from authstate.adapters.broker.account_tokens import AccountToken, NewLease, make_lease
    from authstate.adapters.broker.app import BrokerApp, create_broker_app
    from authstate.adapters.broker.broker import Broker, open_broker
    from authstate.adapters.child.client import AppServerClient, HandshakeFailed
    from authstate.adapters.child.command_line import CommandError
    from authstate.adapters.child.own_login import ChildHasOwnLogin
    from authstate.adapters.child.process import ChildNotStarted
    from authstate.adapters.config import Config, ConfigError, Environment, StoreMode, load_config
    from authstate.adapters.database_broker.open_broker import open_database_broker
    from authstate.adapters.http_clients.authorizer import Authorizer, SyncAuthorizer
    from authstate.adapters.http_clients.token_provider import sync_token_provider, token_provider
    from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
    from authstate.adapters.jsonrpc.framing import RemoteError
    from authstate.adapters.jsonrpc.outgoing_requests import PeerClosed
    from authstate.adapters.logs.event_lines import log_event, log_events
    from authstate.adapters.logs.redactors import RedactingFilter, RedactingFormatter, redact_event
    from authstate.adapters.logs.stderr_lines import configure_logs
    from authstate.adapters.network.http_proxies import Network, NetworkSettingError
    from authstate.adapters.network.insecure_http import InsecureTransport
    from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
    from authstate.adapters.oauth.device_endpoint import DeviceCodeNotEnabled
    from authstate.adapters.oauth.device_login import DEVICE_CODE_WARNING, DeviceLogin, start_device_login
    from authstate.adapters.oauth.issuer import Issuer
    from authstate.adapters.oauth.redirect.port import PortsBusy
    from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
    from authstate.adapters.postgres.connection_target import DatabaseUrlInvalid
    from authstate.adapters.postgres.database import PostgresDatabase
    from authstate.adapters.postgres.hold import HoldTimes
    from authstate.adapters.postgres.keys import EncryptionKeys, KeyFile, KeyProvider, KeysInvalid, KeyVariable
    from authstate.adapters.postgres.migrate import migrate_database
    from authstate.adapters.postgres.store import PostgresStore
    from authstate.adapters.stores.file_store import AuthJsonStore
    from authstate.adapters.stores.keyring import AutoStore, KeyringStore
    from authstate.adapters.stores.memory import MemoryStore
    from authstate.adapters.sync_engine import SyncAuthEngine
    from authstate.adapters.vault.vault import Vault
    from authstate.adapters.vault.vault_store import VaultStore
    from authstate.engine.engine import AuthEngine
    from authstate.engine.flows.background import Background
    from authstate.engine.flows.event_streams import EventStream
    from authstate.engine.flows.refresh_urgency import Urgency
    from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
    from authstate.engine.machines.recovery import RecoveryPlan
    from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, RefreshClaimTrigger
    from authstate.engine.machines.refresh_trace import AccessRefused, ClaimStep, EngineEnded, TokenAnswered, TokenSent
    from authstate.engine.model.account import Account, PlanType
    from authstate.engine.model.credentials import (
        ApiKey,
        ChatgptTokens,
        Credentials,
        ExternalTokens,
        PersonalAccessToken,
        StaticCredentials,
    )
    from authstate.engine.model.errors import (
        AuthError,
        AuthstateError,
        Delivery,
        EngineClosed,
        EngineNotStarted,
        ExternalTokensActive,
        InvalidCredentials,
        IssuerUnavailable,
        LoginAttemptEnded,
        LoginFailed,
        LoginMethodForbidden,
        NotSentInTime,
        NotSignedIn,
        ParentUnavailable,
        PermanentRefreshError,
        PolicyViolation,
        PoolClosed,
        RecoveryExhausted,
        RefreshDeadReason,
        RefreshInDoubt,
        RefreshInterrupted,
        StoreBusy,
        StoreUnavailable,
        StoreUnreadable,
        TokenRefused,
        TransientAuthError,
        TransitionRefused,
        WorkspaceForbidden,
        WrongEventLoop,
    )
    from authstate.engine.model.events import (
        AccountUpdated,
        AsyncListener,
        AuthMode,
        Event,
        EventsMissed,
        Listener,
        LoginCompleted,
        RefreshEnded,
        RefreshFailed,
        RefreshOutcome,
        RefreshReason,
        RefreshRetried,
        RefreshStarted,
        StateChanged,
        TokenExpired,
        TokenExpiring,
        Warned,
    )
    from authstate.engine.model.policy import LoginMethod, Policy
    from authstate.engine.model.refresh_settings import RefreshSettings
    from authstate.engine.model.secret import Secret
    from authstate.engine.model.session import Authorization, Failure, Session
    from authstate.engine.model.states import AuthState, Trigger
    from authstate.engine.pool import EnginePool, PoolMetrics, PoolSettings
    from authstate.engine.ports import (
        ChecksBeforeSending,
        Clock,
        CombinesWrites,
        CredentialStore,
        ExternalTokenSource,
        FollowsSelection,
        HasRevision,
        HeldStore,
        IdentifiesTokens,
        LastChange,
        LimitsSending,
        LocksUnless,
        PartialRefresh,
        RefreshedTokens,
        RefreshPacer,
        ReportsLastChange,
        TokenAuthority,
    )
    from authstate.engine.version import VERSION as __version__
else:
    from authstate._lazy_names import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "adapters.assembly": "EngineOptions open_authority open_engine open_store",
            "adapters.broker.account_tokens": "AccountToken NewLease make_lease",
            "adapters.broker.app": "BrokerApp create_broker_app",
            "adapters.broker.broker": "Broker open_broker",
            "adapters.child.client": "AppServerClient HandshakeFailed",
            "adapters.child.command_line": "CommandError",
            "adapters.child.own_login": "ChildHasOwnLogin",
            "adapters.child.process": "ChildNotStarted",
            "adapters.config": "Config ConfigError Environment StoreMode load_config",
            "adapters.http_clients.authorizer": "Authorizer SyncAuthorizer",
            "adapters.http_clients.token_provider": "sync_token_provider token_provider",
            "adapters.httpx_auth": "EngineAuth SyncEngineAuth",
            "adapters.jsonrpc.framing": "RemoteError",
            "adapters.jsonrpc.outgoing_requests": "PeerClosed",
            "adapters.logs.event_lines": "log_event log_events",
            "adapters.logs.redactors": "RedactingFilter RedactingFormatter redact_event",
            "adapters.logs.stderr_lines": "configure_logs",
            "adapters.network.http_proxies": "Network NetworkSettingError",
            "adapters.network.insecure_http": "InsecureTransport",
            "adapters.oauth.browser_login": "BrowserLogin start_browser_login",
            "adapters.oauth.device_endpoint": "DeviceCodeNotEnabled",
            "adapters.oauth.device_login": "DEVICE_CODE_WARNING DeviceLogin start_device_login",
            "adapters.oauth.issuer": "Issuer",
            "adapters.oauth.redirect.port": "PortsBusy",
            "adapters.oauth.token_endpoint": "HttpTokenAuthority",
            "adapters.database_broker.open_broker": "open_database_broker",
            "adapters.postgres.connection_target": "DatabaseUrlInvalid",
            "adapters.postgres.database": "PostgresDatabase",
            "adapters.postgres.hold": "HoldTimes",
            "adapters.postgres.keys": "EncryptionKeys KeyFile KeyProvider KeysInvalid KeyVariable",
            "adapters.postgres.migrate": "migrate_database",
            "adapters.postgres.store": "PostgresStore",
            "adapters.stores.file_store": "AuthJsonStore",
            "adapters.stores.keyring": "AutoStore KeyringStore",
            "adapters.stores.memory": "MemoryStore",
            "adapters.sync_engine": "SyncAuthEngine",
            "adapters.vault.vault": "Vault",
            "adapters.vault.vault_store": "VaultStore",
            "engine.engine": "AuthEngine",
            "engine.flows.background": "Background",
            "engine.flows.event_streams": "EventStream",
            "engine.flows.refresh_urgency": "Urgency",
            "engine.machines.login_attempt": "LoginAttempt LoginFlow",
            "engine.machines.recovery": "RecoveryPlan",
            "engine.machines.refresh_claim": "RefreshClaim RefreshClaimState RefreshClaimTrigger",
            "engine.machines.refresh_trace": "AccessRefused ClaimStep EngineEnded TokenAnswered TokenSent",
            "engine.model.account": "Account PlanType",
            "engine.model.credentials": (
                "ApiKey ChatgptTokens Credentials ExternalTokens PersonalAccessToken StaticCredentials"
            ),
            "engine.model.errors": (
                "AuthError AuthstateError Delivery EngineClosed EngineNotStarted ExternalTokensActive "
                "InvalidCredentials IssuerUnavailable LoginAttemptEnded LoginFailed LoginMethodForbidden NotSignedIn "
                "NotSentInTime ParentUnavailable PermanentRefreshError PolicyViolation PoolClosed RecoveryExhausted "
                "RefreshDeadReason RefreshInDoubt RefreshInterrupted StoreBusy StoreUnavailable "
                "StoreUnreadable TokenRefused TransientAuthError TransitionRefused WorkspaceForbidden "
                "WrongEventLoop"
            ),
            "engine.model.events": (
                "AccountUpdated AsyncListener AuthMode Event EventsMissed Listener LoginCompleted RefreshEnded "
                "RefreshFailed RefreshOutcome RefreshReason RefreshRetried RefreshStarted StateChanged TokenExpired "
                "TokenExpiring Warned"
            ),
            "engine.model.policy": "LoginMethod Policy",
            "engine.model.refresh_settings": "RefreshSettings",
            "engine.model.secret": "Secret",
            "engine.model.session": "Authorization Failure Session",
            "engine.model.states": "AuthState Trigger",
            "engine.pool": "EnginePool PoolMetrics PoolSettings",
            "engine.ports": (
                "ChecksBeforeSending Clock CombinesWrites CredentialStore ExternalTokenSource FollowsSelection "
                "HasRevision HeldStore IdentifiesTokens LastChange LimitsSending LocksUnless PartialRefresh "
                "RefreshPacer RefreshedTokens ReportsLastChange TokenAuthority"
            ),
        },
    )
    from authstate.engine.version import VERSION as __version__

__all__ = [
    "DEVICE_CODE_WARNING",
    "AccessRefused",
    "Account",
    "AccountToken",
    "AccountUpdated",
    "ApiKey",
    "AppServerClient",
    "AsyncListener",
    "AuthEngine",
    "AuthError",
    "AuthJsonStore",
    "AuthMode",
    "AuthState",
    "Authorization",
    "Authorizer",
    "AuthstateError",
    "AutoStore",
    "Background",
    "Broker",
    "BrokerApp",
    "BrowserLogin",
    "ChatgptTokens",
    "ChecksBeforeSending",
    "ChildHasOwnLogin",
    "ChildNotStarted",
    "ClaimStep",
    "Clock",
    "CombinesWrites",
    "CommandError",
    "Config",
    "ConfigError",
    "CredentialStore",
    "Credentials",
    "DatabaseUrlInvalid",
    "Delivery",
    "DeviceCodeNotEnabled",
    "DeviceLogin",
    "EncryptionKeys",
    "EngineAuth",
    "EngineClosed",
    "EngineEnded",
    "EngineNotStarted",
    "EngineOptions",
    "EnginePool",
    "Environment",
    "Event",
    "EventStream",
    "EventsMissed",
    "ExternalTokenSource",
    "ExternalTokens",
    "ExternalTokensActive",
    "Failure",
    "FollowsSelection",
    "HandshakeFailed",
    "HasRevision",
    "HeldStore",
    "HoldTimes",
    "HttpTokenAuthority",
    "IdentifiesTokens",
    "InsecureTransport",
    "InvalidCredentials",
    "Issuer",
    "IssuerUnavailable",
    "KeyFile",
    "KeyProvider",
    "KeyVariable",
    "KeyringStore",
    "KeysInvalid",
    "LastChange",
    "LimitsSending",
    "Listener",
    "LocksUnless",
    "LoginAttempt",
    "LoginAttemptEnded",
    "LoginCompleted",
    "LoginFailed",
    "LoginFlow",
    "LoginMethod",
    "LoginMethodForbidden",
    "MemoryStore",
    "Network",
    "NetworkSettingError",
    "NewLease",
    "NotSentInTime",
    "NotSignedIn",
    "ParentUnavailable",
    "PartialRefresh",
    "PeerClosed",
    "PermanentRefreshError",
    "PersonalAccessToken",
    "PlanType",
    "Policy",
    "PolicyViolation",
    "PoolClosed",
    "PoolMetrics",
    "PoolSettings",
    "PortsBusy",
    "PostgresDatabase",
    "PostgresStore",
    "RecoveryExhausted",
    "RecoveryPlan",
    "RedactingFilter",
    "RedactingFormatter",
    "RefreshClaim",
    "RefreshClaimState",
    "RefreshClaimTrigger",
    "RefreshDeadReason",
    "RefreshEnded",
    "RefreshFailed",
    "RefreshInDoubt",
    "RefreshInterrupted",
    "RefreshOutcome",
    "RefreshPacer",
    "RefreshReason",
    "RefreshRetried",
    "RefreshSettings",
    "RefreshStarted",
    "RefreshedTokens",
    "RemoteError",
    "ReportsLastChange",
    "Secret",
    "Session",
    "StateChanged",
    "StaticCredentials",
    "StoreBusy",
    "StoreMode",
    "StoreUnavailable",
    "StoreUnreadable",
    "SyncAuthEngine",
    "SyncAuthorizer",
    "SyncEngineAuth",
    "TokenAnswered",
    "TokenAuthority",
    "TokenExpired",
    "TokenExpiring",
    "TokenRefused",
    "TokenSent",
    "TransientAuthError",
    "TransitionRefused",
    "Trigger",
    "Urgency",
    "Vault",
    "VaultStore",
    "Warned",
    "WorkspaceForbidden",
    "WrongEventLoop",
    "__version__",
    "configure_logs",
    "create_broker_app",
    "load_config",
    "log_event",
    "log_events",
    "make_lease",
    "migrate_database",
    "open_authority",
    "open_broker",
    "open_database_broker",
    "open_engine",
    "open_store",
    "redact_event",
    "start_browser_login",
    "start_device_login",
    "sync_token_provider",
    "token_provider",
]
