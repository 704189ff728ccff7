"""THE table. Whatever can change the auth state is in this file.

Theory of operation. A login is always in one of five states. What does I/O (signing in, refreshing, the 401 recovery)
runs outside of the machine and reports its outcome as a trigger; the machine answers with the next state or refuses.
A transient failure is no trigger at all: nothing happened. A trigger that no row allows in the current state is refused
with `TransitionRefused`, never quietly corrected.

Each row names a guard, which looks at the credentials that the trigger brings, and an effect, which says what becomes
of the credentials that the session holds:

    install   the credentials that the trigger brings are the current ones
    forget    there are no credentials any more
    refuse    there are no credentials in use, and the reason is remembered and shown
    bury      the credentials and their account stay, and the reason is remembered and shown
"""

from enum import StrEnum

from authstate.engine.table import Row, Table


class AuthState(StrEnum):
    """The five states of a login."""

    LOGGED_OUT = "logged_out"
    API_KEY = "api_key"
    CHATGPT = "chatgpt"
    EXTERNAL_TOKENS = "external_tokens"
    REFRESH_DEAD = "refresh_dead"


class Trigger(StrEnum):
    """The seven things that can happen to a login."""

    USE_API_KEY = "use_api_key"
    COMPLETE_CHATGPT_LOGIN = "complete_chatgpt_login"
    USE_EXTERNAL_TOKENS = "use_external_tokens"
    LOG_OUT = "log_out"
    CREDENTIALS_REFUSED = "credentials_refused"
    TOKENS_REFRESHED = "tokens_refreshed"
    REFRESH_REJECTED = "refresh_rejected"


_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD = AuthState

AUTH_TABLE = Table(
    name="auth_state",
    title="Auth state",
    states=tuple(AuthState),
    initial=_OUT,
    rows=(
        Row(
            Trigger.USE_API_KEY,
            (_OUT, _KEY, _CHATGPT, _DEAD),
            _KEY,
            "an API key was given (call, store or environment)",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.COMPLETE_CHATGPT_LOGIN,
            (_OUT, _KEY, _CHATGPT, _DEAD),
            _CHATGPT,
            "a browser or device login finished, or stored tokens were restored",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.USE_EXTERNAL_TOKENS,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _EXTERNAL,
            "the parent passed tokens in; they live in memory only; a pending login is superseded",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.LOG_OUT,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _OUT,
            "the person asked, here or in another process; what is stored is removed and revoked",
            effect="forget",
        ),
        Row(
            Trigger.CREDENTIALS_REFUSED,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _OUT,
            "a policy forbids them; the store is kept as it is, the reason is remembered and shown",
            effect="refuse",
        ),
        Row(
            Trigger.TOKENS_REFRESHED,
            (_CHATGPT, _DEAD),
            _CHATGPT,
            "new tokens from the issuer, or found in the store because another process refreshed first",
            guard="same_account",
            effect="install",
        ),
        Row(
            Trigger.TOKENS_REFRESHED,
            (_EXTERNAL,),
            _EXTERNAL,
            "new tokens from the parent",
            guard="same_account",
            effect="install",
        ),
        Row(
            Trigger.REFRESH_REJECTED,
            (_CHATGPT,),
            _DEAD,
            "the issuer refused the refresh token for good, or the store holds another account",
            effect="bury",
        ),
    ),
)
