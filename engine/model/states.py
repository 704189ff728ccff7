"""The five states of a login, and the seven triggers that change it. The transitions are in machines/auth_state.py."""

from enum import StrEnum


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
