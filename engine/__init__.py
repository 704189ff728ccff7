"""The auth engine: states, credentials, the refresh protocol and the 401 recovery, without I/O.

Import public names from here. Each name is loaded when it is first used, so a program loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authstate.engine.engine import AuthEngine as AuthEngine
    from authstate.engine.machines.login_attempt import LoginAttempt as LoginAttempt
    from authstate.engine.machines.login_attempt import LoginKind as LoginKind
    from authstate.engine.machines.recovery import RecoveryPlan as RecoveryPlan
    from authstate.engine.machines.refresh_claim import RefreshClaim as RefreshClaim
    from authstate.engine.model.account import Account as Account
    from authstate.engine.model.account import PlanType as PlanType
    from authstate.engine.model.credentials import ApiKey as ApiKey
    from authstate.engine.model.credentials import ChatgptTokens as ChatgptTokens
    from authstate.engine.model.credentials import Credentials as Credentials
    from authstate.engine.model.credentials import ExternalTokens as ExternalTokens
    from authstate.engine.model.credentials import PersonalAccessToken as PersonalAccessToken
    from authstate.engine.model.errors import AuthError as AuthError
    from authstate.engine.model.errors import Delivery as Delivery
    from authstate.engine.model.errors import EngineClosed as EngineClosed
    from authstate.engine.model.errors import ExternalTokensActive as ExternalTokensActive
    from authstate.engine.model.errors import InvalidCredentials as InvalidCredentials
    from authstate.engine.model.errors import IssuerUnavailable as IssuerUnavailable
    from authstate.engine.model.errors import LoginAttemptEnded as LoginAttemptEnded
    from authstate.engine.model.errors import LoginFailed as LoginFailed
    from authstate.engine.model.errors import LoginMethodForbidden as LoginMethodForbidden
    from authstate.engine.model.errors import NotSignedIn as NotSignedIn
    from authstate.engine.model.errors import ParentUnavailable as ParentUnavailable
    from authstate.engine.model.errors import PermanentRefreshError as PermanentRefreshError
    from authstate.engine.model.errors import PolicyViolation as PolicyViolation
    from authstate.engine.model.errors import PoolClosed as PoolClosed
    from authstate.engine.model.errors import RecoveryExhausted as RecoveryExhausted
    from authstate.engine.model.errors import RefreshDeadReason as RefreshDeadReason
    from authstate.engine.model.errors import RefreshInDoubt as RefreshInDoubt
    from authstate.engine.model.errors import RefreshInterrupted as RefreshInterrupted
    from authstate.engine.model.errors import StoreBusy as StoreBusy
    from authstate.engine.model.errors import StoreUnavailable as StoreUnavailable
    from authstate.engine.model.errors import StoreUnreadable as StoreUnreadable
    from authstate.engine.model.errors import TokenRefused as TokenRefused
    from authstate.engine.model.errors import TransientAuthError as TransientAuthError
    from authstate.engine.model.errors import TransitionRefused as TransitionRefused
    from authstate.engine.model.errors import WorkspaceForbidden as WorkspaceForbidden
    from authstate.engine.model.events import AccountUpdated as AccountUpdated
    from authstate.engine.model.events import AuthMode as AuthMode
    from authstate.engine.model.events import Event as Event
    from authstate.engine.model.events import LoginCompleted as LoginCompleted
    from authstate.engine.model.events import RefreshFailed as RefreshFailed
    from authstate.engine.model.events import StateChanged as StateChanged
    from authstate.engine.model.events import Warned as Warned
    from authstate.engine.model.policy import LoginMethod as LoginMethod
    from authstate.engine.model.policy import Policy as Policy
    from authstate.engine.model.refresh_settings import RefreshSettings as RefreshSettings
    from authstate.engine.model.secret import Secret as Secret
    from authstate.engine.model.session import Authorization as Authorization
    from authstate.engine.model.session import Failure as Failure
    from authstate.engine.model.session import Session as Session
    from authstate.engine.model.states import AuthState as AuthState
    from authstate.engine.model.states import Trigger as Trigger
    from authstate.engine.pool import EnginePool as EnginePool
    from authstate.engine.pool import PoolMetrics as PoolMetrics
    from authstate.engine.pool import PoolSettings as PoolSettings
    from authstate.engine.ports import Clock as Clock
    from authstate.engine.ports import CredentialStore as CredentialStore
    from authstate.engine.ports import ExternalTokenSource as ExternalTokenSource
    from authstate.engine.ports import HeldStore as HeldStore
    from authstate.engine.ports import IdentifiesTokens as IdentifiesTokens
    from authstate.engine.ports import LastChange as LastChange
    from authstate.engine.ports import PartialRefresh as PartialRefresh
    from authstate.engine.ports import RefreshedTokens as RefreshedTokens
    from authstate.engine.ports import RefreshPacer as RefreshPacer
    from authstate.engine.ports import TokenAuthority as TokenAuthority
    from authstate.engine.version import VERSION as VERSION

__all__ = [
    "VERSION",
    "Account",
    "AccountUpdated",
    "ApiKey",
    "AuthEngine",
    "AuthError",
    "AuthMode",
    "AuthState",
    "Authorization",
    "ChatgptTokens",
    "Clock",
    "CredentialStore",
    "Credentials",
    "Delivery",
    "EngineClosed",
    "EnginePool",
    "Event",
    "ExternalTokenSource",
    "ExternalTokens",
    "ExternalTokensActive",
    "Failure",
    "HeldStore",
    "IdentifiesTokens",
    "InvalidCredentials",
    "IssuerUnavailable",
    "LastChange",
    "LoginAttempt",
    "LoginAttemptEnded",
    "LoginCompleted",
    "LoginFailed",
    "LoginKind",
    "LoginMethod",
    "LoginMethodForbidden",
    "NotSignedIn",
    "ParentUnavailable",
    "PartialRefresh",
    "PermanentRefreshError",
    "PersonalAccessToken",
    "PlanType",
    "Policy",
    "PolicyViolation",
    "PoolClosed",
    "PoolMetrics",
    "PoolSettings",
    "RecoveryExhausted",
    "RecoveryPlan",
    "RefreshClaim",
    "RefreshDeadReason",
    "RefreshFailed",
    "RefreshInDoubt",
    "RefreshInterrupted",
    "RefreshPacer",
    "RefreshSettings",
    "RefreshedTokens",
    "Secret",
    "Session",
    "StateChanged",
    "StoreBusy",
    "StoreUnavailable",
    "StoreUnreadable",
    "TokenAuthority",
    "TokenRefused",
    "TransientAuthError",
    "TransitionRefused",
    "Trigger",
    "Warned",
    "WorkspaceForbidden",
]

_MODULES = {
    "AuthEngine": "engine",
    "RefreshClaim": "machines.refresh_claim",
    "LoginAttempt": "machines.login_attempt",
    "LoginKind": "machines.login_attempt",
    "RecoveryPlan": "machines.recovery",
    "Authorization": "model.session",
    "Account": "model.account",
    "ApiKey": "model.credentials",
    "ChatgptTokens": "model.credentials",
    "Credentials": "model.credentials",
    "ExternalTokens": "model.credentials",
    "PersonalAccessToken": "model.credentials",
    "PlanType": "model.account",
    "Secret": "model.secret",
    "AuthError": "model.errors",
    "Delivery": "model.errors",
    "EngineClosed": "model.errors",
    "ExternalTokensActive": "model.errors",
    "InvalidCredentials": "model.errors",
    "IssuerUnavailable": "model.errors",
    "LoginAttemptEnded": "model.errors",
    "LoginFailed": "model.errors",
    "LoginMethodForbidden": "model.errors",
    "NotSignedIn": "model.errors",
    "ParentUnavailable": "model.errors",
    "PermanentRefreshError": "model.errors",
    "PolicyViolation": "model.errors",
    "PoolClosed": "model.errors",
    "RecoveryExhausted": "model.errors",
    "RefreshDeadReason": "model.errors",
    "RefreshInDoubt": "model.errors",
    "RefreshInterrupted": "model.errors",
    "StoreBusy": "model.errors",
    "StoreUnavailable": "model.errors",
    "StoreUnreadable": "model.errors",
    "TokenRefused": "model.errors",
    "TransientAuthError": "model.errors",
    "TransitionRefused": "model.errors",
    "WorkspaceForbidden": "model.errors",
    "AccountUpdated": "model.events",
    "AuthMode": "model.events",
    "Event": "model.events",
    "LoginCompleted": "model.events",
    "RefreshFailed": "model.events",
    "StateChanged": "model.events",
    "Warned": "model.events",
    "LoginMethod": "model.policy",
    "Policy": "model.policy",
    "RefreshSettings": "model.refresh_settings",
    "Failure": "model.session",
    "Session": "model.session",
    "AuthState": "model.states",
    "Trigger": "model.states",
    "EnginePool": "pool",
    "PoolMetrics": "pool",
    "PoolSettings": "pool",
    "Clock": "ports",
    "CredentialStore": "ports",
    "ExternalTokenSource": "ports",
    "HeldStore": "ports",
    "IdentifiesTokens": "ports",
    "LastChange": "ports",
    "PartialRefresh": "ports",
    "RefreshPacer": "ports",
    "RefreshedTokens": "ports",
    "TokenAuthority": "ports",
    "VERSION": "version",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
