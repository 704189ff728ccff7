"""The fixed histories: one for each cell of the state table that can be reached, and those of the other checks."""

from collections.abc import Iterator
from typing import Final

from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.model.states import AuthState, Trigger

_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD = AuthState

_REACH: Final[dict[AuthState, tuple[str, ...]]] = {
    _OUT: ("start",),
    _KEY: ("api-key",),
    _CHATGPT: ("given-chatgpt", "start"),
    _EXTERNAL: ("external",),
    _DEAD: ("given-chatgpt", "refresh-rejected"),
}
"""How each state is reached."""

_CAUSE: Final[dict[Trigger, str]] = {
    Trigger.USE_API_KEY: "api-key",
    Trigger.COMPLETE_CHATGPT_LOGIN: "browser",
    Trigger.USE_EXTERNAL_TOKENS: "external",
    Trigger.LOG_OUT: "log-out",
    Trigger.TOKENS_REFRESHED: "refresh",
    Trigger.REFRESH_REJECTED: "refresh-rejected",
}
"""What causes each trigger, or is refused where no row allows it."""

_OTHERS: Final[dict[tuple[AuthState, Trigger], tuple[str, ...]]] = {
    (_OUT, Trigger.CREDENTIALS_REFUSED): ("given-key-forbidden",),
    (_KEY, Trigger.CREDENTIALS_REFUSED): ("forced-api", "api-key", "other-account"),
    (_CHATGPT, Trigger.CREDENTIALS_REFUSED): ("forced-chatgpt", "given-chatgpt", "start", "other-key"),
    (_DEAD, Trigger.CREDENTIALS_REFUSED): ("forced-chatgpt", "given-chatgpt", "refresh-rejected", "other-key"),
    (_DEAD, Trigger.TOKENS_REFRESHED): (*_REACH[_DEAD], "other-login"),
    (_EXTERNAL, Trigger.TOKENS_REFRESHED): (*_REACH[_EXTERNAL], "limits-after-401"),
    (_EXTERNAL, Trigger.REFRESH_REJECTED): (*_REACH[_EXTERNAL], "parent-refuses"),
}
"""The cells that need more than one action."""

CELLS: Final = tuple(
    (AuthState(state), Trigger(trigger)) for state in AUTH_TABLE.states for trigger in AUTH_TABLE.triggers
)
"""Every cell of the state table."""

UNREACHABLE: Final = {
    (_EXTERNAL, Trigger.CREDENTIALS_REFUSED): "a policy changes only when a server starts, and a server starts without "
    "external tokens",
}
"""The cells that cannot be reached over the account API, and why."""

_MORE: Final[tuple[tuple[str, ...], ...]] = (
    ("start-uninitialized",),
    ("start", "bad-requests"),
    ("start", "no-params"),
    ("start", "not-json"),
    ("api-key", "blank-key"),
    ("start", "cancel-unknown"),
    ("given-corrupt", "api-key"),
    ("api-key", "restart"),
    ("api-key", "kill"),
    ("given-chatgpt", "start", "refresh", "kill"),
    ("given-expired", "refresh-expired", "refresh"),
    ("given-chatgpt", "start", "refresh-transient", "refresh"),
    ("given-chatgpt", "start", "refresh-killed"),
    ("given-chatgpt", "start", "limits", "limits-after-401"),
    ("given-chatgpt", "start", "limits-401-rejected", "limits"),
    ("given-chatgpt", "start", "limits-401-transient", "limits"),
    ("given-chatgpt", "start", "limits-401-reloaded", "limits"),
    ("given-chatgpt", "start", "limits-always-401", "limits"),
    ("external", "limits-always-401", "limits"),
    ("given-chatgpt", "refresh-rejected", "restart", "refresh"),
    ("api-key", "limits"),
    ("start", "limits"),
    ("external", "limits"),
    ("external-0.93", "external-0.169"),
    ("external-no-jwt",),
    ("external", "refresh", "log-out", "log-out"),
    ("given-chatgpt", "external", "log-out"),
    ("external", "parent-other-workspace"),
    ("browser-declined",),
    ("browser-cancelled",),
    ("browser-pending", "browser"),
    ("browser-pending", "external"),
    ("browser-pending",),
    ("device",),
    ("forced-chatgpt", "api-key"),
    ("forced-api", "browser", "external", "api-key"),
    ("forced-api", "device"),
    ("forced-workspace", "external", "external-other-account"),
    ("forced-workspace", "browser", "browser-other-account"),
    ("forced-workspace", "device"),
    ("given-chatgpt", "start", "forced-api", "unforced"),
    ("given-chatgpt", "start", "forced-workspace", "unforced"),
    ("api-key", "other-logout"),
    ("given-chatgpt", "start", "other-account"),
    ("given-chatgpt", "start", "other-login"),
    ("given-chatgpt", "start", "other-logout"),
    ("start", "other-key"),
    ("start", "other-login"),
)

_SLOW: Final[tuple[tuple[str, ...], ...]] = (("external", "parent-late"),)


def scenarios(*, slow: bool = False) -> Iterator[tuple[str, ...]]:
    """Return every fixed history.

    Args:
        slow: also those that wait for a time limit of the server.
    """
    yield from _MORE
    for state, trigger in CELLS:
        if (state, trigger) in _OTHERS:
            yield _OTHERS[state, trigger]
        elif (state, trigger) not in UNREACHABLE:
            yield (*_REACH[state], _CAUSE[trigger])
    if slow:
        yield from _SLOW
