"""Actions that send a request to the backend, which may refuse the token with 401. The request is that for rate limits.

What must happen then is `ReferenceAccount.remedy`: the ways through the table of the 401 recovery.
"""

import json

from authstate.adapters.conformance.connection import PARENT_METHOD, Message
from authstate.adapters.conformance.disturbances import store_chatgpt
from authstate.adapters.conformance.held import External, Managed
from authstate.adapters.conformance.history import INVALID, History
from authstate.adapters.conformance.logins import external_tokens
from authstate.adapters.conformance.reference import Remedy
from authstate.adapters.conformance.tokens import refuse_for_now, revoke_all, took_new_tokens
from authstate.engine.model.states import AuthState, Trigger

LIMITS = "account/rateLimits/read"
_MOST = 2
"""Refreshes for one request, which is sent at most three times. A parent is asked once for it, and perhaps once for a
request that the server sends by itself."""


def limits(history: History) -> None:
    """Read the rate limits. The parent answers, if it is asked."""
    match history.model.remedy():
        case Remedy.NO_LOGIN:
            history.refused("limits/refused", history.call(LIMITS))
        case Remedy.UNKNOWN:
            history.call(LIMITS)
        case Remedy.NOT_NEEDED:
            answer, sent = _ask(history)
            history.check("limits/answer", "rateLimits" in answer.get("result", {}), str(answer))
            history.check("limits/answer", sent == 0, f"{sent} refresh tokens were sent")
        case Remedy.RELOAD:
            _reloads(history)
        case Remedy.REFRESH:
            _refreshes(history, *_ask(history))
        case Remedy.REJECTED:
            _is_rejected(history, *_ask(history))
        case Remedy.POSTPONED:
            _may_refresh(history)
        case Remedy.PARENT:
            _asks_parent(history)


def limits_after_401(history: History) -> None:
    """Let the backend refuse every token, and read the rate limits."""
    _refuse_all(history)
    limits(history)


def limits_401_rejected(history: History) -> None:
    """Let the backend refuse every token and the issuer sign everybody out, and read the rate limits."""
    _refuse_all(history)
    revoke_all(history)
    limits(history)


def limits_401_transient(history: History) -> None:
    """Let the backend refuse every token and the issuer refuse for now, and read the rate limits."""
    _refuse_all(history)
    if history.model.remedy() is not Remedy.REFRESH:
        limits(history)
        return
    refuse_for_now(history)
    before = len(history.sent_tokens())
    answer, sent = _ask(history)
    history.not_processed += history.sent_tokens()[before:]
    history.check("recovery/transient", sent > 0, "no refresh token was sent")
    history.check("recovery/transient", "error" in answer, str(answer))
    history.shows("recovery/transient")
    history.stores("recovery/transient")
    history.issuer.behave("refresh")


def limits_401_reloaded(history: History) -> None:
    """Let the backend refuse every token, let another process store newer ones, and read the rate limits."""
    _refuse_all(history)
    held = history.model.held
    assert isinstance(held, Managed)
    history.model.stored = store_chatgpt(history, held.workspace or "org-1")
    limits(history)


def limits_always_401(history: History) -> None:
    """Let the backend refuse every token, new ones as well, and read the rate limits."""
    model = history.model
    _refuse_all(history)
    remedy, held = model.remedy(), model.held
    if remedy not in (Remedy.REFRESH, Remedy.PARENT):
        limits(history)
        return
    history.note("#", "the backend refuses new tokens, too")
    history.issuer.behave("backend", mode="status", status=401, code="token_expired")
    given: list[External] = []
    answer, sent = _ask(history, given)
    history.issuer.behave("backend")
    history.check("recovery/ends", "error" in answer, str(answer))
    if isinstance(held, Managed):
        history.check("recovery/ends", 0 < sent <= _MOST, f"{sent} refresh tokens were sent: expected 1 to {_MOST}")
        took_new_tokens(history, held)
    else:
        right = 0 < len(given) <= _MOST
        history.check("recovery/ends", right, f"the parent was asked {len(given)} times: expected 1 to {_MOST}")
        model.fire(Trigger.TOKENS_REFRESHED, given[-1])
    history.shows("recovery/ends")
    _refuse_all(history)


def parent_refuses(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent refuse to give others."""
    _parent_fails(history, "recovery/parent-refuses", {"error": {"code": INVALID, "message": "no tokens"}})
    history.model.covered.add((AuthState.EXTERNAL_TOKENS, Trigger.REFRESH_REJECTED))


def parent_other_workspace(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent answer with those of another workspace."""
    held = history.model.held
    other = "org-1" if isinstance(held, External) and held.workspace == "org-2" else "org-2"
    _parent_fails(history, "recovery/parent-workspace", {"result": external_tokens(history, other)[0]})


def parent_late(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent answer after the server gave up."""
    asked = _parent_fails(history, "recovery/parent-late", None)
    history.server.send({"id": asked[0].get("id"), "result": external_tokens(history, "org-1")[0]})
    history.shows("recovery/parent-late")


# The remedies


def _reloads(history: History) -> None:
    answer, sent = _ask(history)
    history.check("recovery/reloaded", sent == 0, f"{sent} refresh tokens were sent")
    history.check("recovery/reloaded", "result" in answer, str(answer))
    history.model.fire(Trigger.TOKENS_REFRESHED, history.model.stored)
    history.shows("recovery/reloaded")
    history.stores("recovery/reloaded")


def _refreshes(history: History, answer: Message, sent: int) -> None:
    before = history.model.held
    assert isinstance(before, Managed)
    history.check("recovery/refreshed", "result" in answer, str(answer))
    history.check("recovery/refreshed", sent == 1, f"{sent} refresh tokens were sent")
    took_new_tokens(history, before)
    history.shows("recovery/refreshed")


def _is_rejected(history: History, answer: Message, sent: int) -> None:
    """The refresh token is sent, unless it is known to be refused, and the login ends."""
    model = history.model
    held, wanted = model.held, int(model.must_send())
    assert isinstance(held, Managed)
    history.check("recovery/rejected", "error" in answer, str(answer))
    history.check("recovery/rejected", sent >= wanted, "no refresh token was sent")
    history.observe("refresh/permanent/never-retried", sent <= wanted, f"{sent - wanted} times too often")
    if model.state is AuthState.CHATGPT:
        model.fire(Trigger.REFRESH_REJECTED)
    model.refused_tokens.add(held.refresh)
    history.shows("refresh/permanent/shown")
    history.stores("refresh/permanent/kept")


def _may_refresh(history: History) -> None:
    answer, sent = _ask(history)
    held = history.model.held
    if sent and isinstance(held, Managed):
        is_rejected = held.refresh in history.model.revoked_tokens
        (_is_rejected if is_rejected else _refreshes)(history, answer, sent)
        return
    history.check("recovery/transient", "error" in answer, str(answer))
    history.shows("recovery/transient")
    history.stores("recovery/transient")


def _asks_parent(history: History) -> None:
    given: list[External] = []
    answer, _ = _ask(history, given)
    history.check("recovery/parent-asked", len(given) == 1 and "result" in answer, f"{len(given)} times: {answer}")
    history.model.fire(Trigger.TOKENS_REFRESHED, given[0])
    history.shows("recovery/parent-asked")


def _parent_fails(history: History, name: str, reply: Message | None) -> list[Message]:
    asked: list[Message] = []

    def answer_parent(message: Message) -> Message | None:
        asked.append(message)
        return reply

    _refuse_all(history)
    before, history.parent = history.parent, answer_parent
    answer = history.call(LIMITS)
    history.parent = before
    history.check("recovery/parent-asked", bool(asked), f"{PARENT_METHOD} was not sent: {json.dumps(answer)}")
    history.check(name, "error" in answer, str(answer))
    history.shows(name)
    return asked


def _refuse_all(history: History) -> None:
    history.note("#", "the backend refuses every token issued so far")
    history.issuer.expire_access()
    history.model.refused_access |= {
        token for token, kind in history.secrets.items() if kind.startswith("access-token")
    }


def _ask(history: History, given: list[External] | None = None) -> tuple[Message, int]:
    """Read the rate limits, while the parent gives tokens of the same workspace. Returns the answer, and how many
    refresh tokens were sent.

    Args:
        given: what the parent gave is added.
    """
    held = history.model.held
    workspace = (held.workspace if isinstance(held, Managed | External) else None) or "org-1"

    def answer_parent(_: Message) -> Message:
        params, tokens = external_tokens(history, workspace)
        if given is not None:
            given.append(tokens)
        return {"result": params}

    sent = len(history.sent_tokens())
    before, history.parent = history.parent, answer_parent
    answer = history.call(LIMITS)
    history.parent = before
    return answer, len(history.sent_tokens()) - sent
