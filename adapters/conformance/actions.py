"""The actions of a history by their names, and how a history is run."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from authstate.adapters.conformance import disturbances, logins, recoveries, tokens
from authstate.adapters.conformance.checks import CHECKS
from authstate.adapters.conformance.connection import Malformed, NoAnswer
from authstate.adapters.conformance.history import CheckFailed, History, NotApplicable, Setting
from authstate.engine.model.states import AuthState, Trigger

Action = Callable[[History], Any]

ACTIONS: Final[dict[str, Action]] = {
    "start": disturbances.start,
    "start-uninitialized": disturbances.start_uninitialized,
    "given-chatgpt": disturbances.given_chatgpt,
    "given-expired": disturbances.given_expired,
    "given-corrupt": disturbances.given_corrupt,
    "given-key-forbidden": disturbances.given_key_forbidden,
    "forced-chatgpt": disturbances.forced_to_chatgpt,
    "forced-api": disturbances.forced_to_api,
    "forced-workspace": disturbances.forced_workspace,
    "unforced": disturbances.unforced,
    "restart": disturbances.restart,
    "kill": disturbances.kill,
    "other-key": disturbances.other_key,
    "other-login": disturbances.other_login,
    "other-account": disturbances.other_account,
    "other-logout": disturbances.other_logout,
    "bad-requests": disturbances.bad_requests,
    "no-params": disturbances.no_params,
    "not-json": disturbances.not_json,
    "blank-key": disturbances.blank_key,
    "api-key": logins.api_key,
    "external": logins.external,
    "external-other-account": logins.external_other_account,
    "external-0.93": logins.external_of_0_93,
    "external-0.169": logins.external_of_0_169,
    "external-no-jwt": logins.external_no_jwt,
    "browser": logins.browser,
    "browser-other-account": logins.browser_other_account,
    "browser-declined": logins.browser_declined,
    "browser-cancelled": logins.browser_cancelled,
    "browser-pending": logins.browser_pending,
    "device": logins.device,
    "cancel-unknown": logins.cancel_unknown,
    "log-out": logins.log_out,
    "read": tokens.read,
    "refresh": tokens.refresh,
    "refresh-expired": tokens.refresh_expired,
    "refresh-rejected": tokens.refresh_rejected,
    "refresh-transient": tokens.refresh_transient,
    "refresh-killed": tokens.refresh_killed,
    "limits": recoveries.limits,
    "limits-after-401": recoveries.limits_after_401,
    "limits-401-rejected": recoveries.limits_401_rejected,
    "limits-401-transient": recoveries.limits_401_transient,
    "limits-401-reloaded": recoveries.limits_401_reloaded,
    "limits-always-401": recoveries.limits_always_401,
    "parent-refuses": recoveries.parent_refuses,
    "parent-other-workspace": recoveries.parent_other_workspace,
    "parent-late": recoveries.parent_late,
}
"""Every action by its name. Names are part of the interface: `--history` takes them."""

_BEFORE_START: Final = ("given-", "forced-", "unforced", "start")
"""Actions that prepare the home, or start the server themselves."""

_ONLY_FIRST: Final = ("given-", "start-uninitialized")
"""Actions that need a server that is not started yet."""

_ONLY_IN: Final[dict[str, AuthState]] = {
    "refresh-killed": AuthState.CHATGPT,
    "limits-401-reloaded": AuthState.CHATGPT,
    "parent-refuses": AuthState.EXTERNAL_TOKENS,
    "parent-other-workspace": AuthState.EXTERNAL_TOKENS,
    "parent-late": AuthState.EXTERNAL_TOKENS,
}
"""The state that an action needs."""

Ending = tuple[AuthState, str]
"""The state of the model before the action that ended a history, and the name of that action."""


class Outcome(NamedTuple):
    """What came of a history.

    Attributes:
        actions: the actions that were done, up to the one that failed.
        passed: the checks that passed.
        failed: the checks that failed, and why.
        covered: the cells of the state table whose outcome was compared.
        transcript: lines of (">" sent, "<" received or "#" done; text), without secrets.
        not_applicable: what the server does not have, by how the checks of it begin, if the history ended for that.
        ending: where the history ended before its last action was done. None if it did not.
    """

    actions: tuple[str, ...]
    passed: frozenset[str]
    failed: dict[str, str]
    covered: frozenset[tuple[AuthState, Trigger]]
    transcript: tuple[tuple[str, str], ...]
    user_agent: str
    not_applicable: tuple[str, str] | None = None
    ending: Ending | None = None


def play(setting: Setting, number: int, actions: Sequence[str], avoid: Collection[Ending] = ()) -> Outcome:
    """Run a history on a new home. An action that is not possible in the state in which it comes is left out.

    Args:
        number: another one for each history of a setting.
        actions: names of `ACTIONS`.
        avoid: leave out these actions in these states, because they would end the history.

    Raises:
        ChildNotStarted: the program of the server cannot be started.
    """
    history = History(setting, number)
    done: list[str] = []
    covered: frozenset[tuple[AuthState, Trigger]] = frozenset()
    failed: dict[str, str] = {}
    missing = None
    at: Ending | None = None
    try:
        for name in actions:
            if not name.startswith(_BEFORE_START):
                _ = history.server
            at = (history.model.state, name)
            if at in avoid or not _is_possible(history, name):
                continue
            done.append(name)
            history.note("#", f"[{name}] {(ACTIONS[name].__doc__ or '').splitlines()[0]}")
            ACTIONS[name](history)
            covered = frozenset(history.model.covered)
        at = None
        history.finish()
    except CheckFailed as failure:
        failed[failure.check] = failure.detail
    except NotApplicable as reason:
        missing = (reason.area, reason.reason)
    except NoAnswer as error:
        failed["answers/in-time"] = history.hidden(str(error))
    except Malformed as error:
        failed["answers/shape"] = history.hidden(str(error))
    finally:
        history.abandon()
    transcript = tuple((sign, history.hidden(text)) for sign, text in history.transcript)
    failed = history.extra | failed
    assert failed.keys() <= CHECKS.keys()
    passed = frozenset(history.passed - failed.keys())
    return Outcome(tuple(done), passed, failed, covered, transcript, history.user_agent, missing, at)


def _is_possible(history: History, name: str) -> bool:
    if name.startswith(_ONLY_FIRST) and history.is_running:
        return False
    return _ONLY_IN.get(name) in (None, history.model.state)
