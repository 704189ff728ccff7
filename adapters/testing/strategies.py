"""Hypothesis strategies for what authstate handles: claims, credentials, sessions, and histories of a login.

They need hypothesis: `pip install hypothesis`. All secrets that they make are invented, and everything that they make
is shown readably in a failure, except for the secrets.
"""

from functools import cache
from typing import Any

from hypothesis import strategies as st

from authstate.adapters.testing.histories import HistoryAction
from authstate.adapters.testing.jwt import account_claims, make_jwt
from authstate.engine.model.account import PlanType
from authstate.engine.model.credentials import (
    ApiKey,
    ChatgptTokens,
    Credentials,
    ExternalTokens,
    PersonalAccessToken,
    StaticCredentials,
)
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState

__all__ = [
    "api_keys",
    "chatgpt_tokens",
    "credentials",
    "emails",
    "external_tokens",
    "histories",
    "id_token_claims",
    "lifetimes",
    "personal_access_tokens",
    "sessions",
    "static_credentials",
    "stored_credentials",
]

NOW = 1_800_000_000.0
"""The time that expiry counts from, unless a test gives another one: where a `ManualClock` begins."""

_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
_VALUES = (None, True, 7, "", "text", "Zoë 🔑", ["a", "list"], {"a": "mapping"})
"""The values of claims that nobody reads. Arbitrary text would make hypothesis load its tables of characters first."""
_TOKENS = st.text("ABCDEFabcdef0123456789_-", min_size=4, max_size=40)
_EDGES = st.sampled_from((-100.0, 20.0, 200.0, 3600.0))
_LIFETIMES = st.none() | _EDGES | st.integers(-86_400, 30 * 86_400).map(float)
_AGES = st.none() | st.integers(0, 30 * 86_400)
_MOSTLY = st.sampled_from((True, True, True, False))


def emails() -> st.SearchStrategy[str]:
    """Email addresses of the domain `example.com`."""
    return _NAMES.map(lambda name: f"{name}@example.com")


def lifetimes() -> st.SearchStrategy[float | None]:
    """How long an access token lasts, in seconds: it has expired, is about to, lasts for days, or has no `exp`."""
    return _LIFETIMES


@cache
def id_token_claims() -> st.SearchStrategy[dict[str, Any]]:
    """The claims of an id token. Every claim that names the account may be missing; others may be there."""
    known = st.builds(
        account_claims,
        st.none() | emails(),
        st.none() | _NAMES.map(lambda name: f"org-{name}"),
        st.none() | _NAMES.map(lambda name: f"user-{name}"),
        st.none() | st.sampled_from([*map(str, PlanType), "a plan of tomorrow"]),
    )
    others = st.dictionaries(_NAMES.map(lambda name: f"x-{name}"), st.sampled_from(_VALUES), max_size=3)
    return st.tuples(others, known).map(lambda both: {**both[0], **both[1]})


def api_keys() -> st.SearchStrategy[ApiKey]:
    """API keys."""
    return _TOKENS.map(lambda text: ApiKey.parse(f"sk-{text}"))


def personal_access_tokens() -> st.SearchStrategy[PersonalAccessToken]:
    """Personal access tokens whose owner is not known yet."""
    return _TOKENS.map(lambda text: PersonalAccessToken.parse(f"at-{text}"))


@st.composite
def chatgpt_tokens(draw: st.DrawFn, *, now: float = NOW, can_refresh: bool | None = None) -> ChatgptTokens:
    """The tokens of a ChatGPT login.

    Args:
        now: seconds since the epoch; the tokens are up to 30 days old.
        can_refresh: whether there is a refresh token. None: mostly.
    """
    claims, lifetime, salt = draw(id_token_claims()), draw(_LIFETIMES), draw(_TOKENS)
    expiry = {} if lifetime is None else {"exp": now + lifetime}
    has_refresh = draw(_MOSTLY) if can_refresh is None else can_refresh
    age = draw(_AGES)
    return ChatgptTokens.read(
        id_token=make_jwt(**claims),
        access_token=make_jwt(**{**claims, **expiry, "jti": salt}),
        refresh_token=f"rt-{salt}" if has_refresh else "",
        last_refresh=None if age is None else now - age,
    )


@st.composite
def external_tokens(draw: st.DrawFn, *, now: float = NOW) -> ExternalTokens:
    """Tokens that a parent application passes in, with an id token or without.

    Args:
        now: seconds since the epoch, from which the expiry counts.
    """
    claims, lifetime = draw(id_token_claims()), draw(_LIFETIMES)
    expiry = {} if lifetime is None else {"exp": now + lifetime}
    return ExternalTokens.read(
        access_token=make_jwt(**{**claims, **expiry, "jti": draw(_TOKENS)}),
        id_token=make_jwt(**claims) if draw(st.booleans()) else None,
    )


def static_credentials() -> st.SearchStrategy[StaticCredentials]:
    """API keys and personal access tokens."""
    return api_keys() | personal_access_tokens()


def stored_credentials(*, now: float = NOW) -> st.SearchStrategy[Credentials]:
    """Credentials of every kind that a store keeps: all but external tokens.

    Args:
        now: seconds since the epoch, from which the expiry counts.
    """
    return static_credentials() | chatgpt_tokens(now=now)


def credentials(*, now: float = NOW) -> st.SearchStrategy[Credentials]:
    """Credentials of every kind.

    Args:
        now: seconds since the epoch, from which the expiry counts.
    """
    return stored_credentials(now=now) | external_tokens(now=now)


def sessions(state: AuthState | None = None, *, now: float = NOW) -> st.SearchStrategy[Session]:
    """Sessions, with the credentials and the failure that belong to their state.

    Args:
        state: the state. None: any of the five.
        now: seconds since the epoch, from which the expiry counts.
    """
    if state is None:
        return st.one_of([sessions(one, now=now) for one in AuthState])
    generations = st.integers(0, 1000)
    holds: dict[AuthState, st.SearchStrategy[Any]] = {
        AuthState.LOGGED_OUT: st.none(),
        AuthState.API_KEY: static_credentials(),
        AuthState.CHATGPT: chatgpt_tokens(now=now),
        AuthState.EXTERNAL_TOKENS: external_tokens(now=now),
        AuthState.REFRESH_DEAD: chatgpt_tokens(now=now),
    }
    failures: st.SearchStrategy[Failure | None] = st.none()
    if state is AuthState.REFRESH_DEAD:
        failures = st.sampled_from(RefreshDeadReason).map(_failure)
    return st.builds(Session, st.just(state), holds[state], failures, generations)


def histories(*, min_size: int = 0, max_size: int = 12) -> st.SearchStrategy[list[HistoryAction]]:
    """Sequences of what a person, the issuer, other processes and time do. `HistoryPlayer` plays them on an engine.

    Args:
        min_size: how many actions at least.
        max_size: how many actions at most.
    """
    return st.lists(st.sampled_from(HistoryAction), min_size=min_size, max_size=max_size)


def _failure(reason: RefreshDeadReason) -> Failure:
    return Failure(str(PermanentRefreshError(reason)), reason)
