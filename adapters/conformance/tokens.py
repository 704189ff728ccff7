"""Actions that refresh, and that the backend, the issuer or the parent refuse."""

import json
from time import monotonic

from authstate.adapters.conformance.connection import PARENT_METHOD, Message
from authstate.adapters.conformance.held import External, Managed
from authstate.adapters.conformance.history import INVALID, READ, History
from authstate.adapters.conformance.home import UNKNOWN_MEMBER
from authstate.adapters.conformance.logins import external_tokens
from authstate.engine.model.states import AuthState, Trigger

LIMITS = "account/rateLimits/read"
_ASK = {"refreshToken": True}


def read(history: History) -> None:
    """Ask who is signed in."""
    history.call(READ, {"refreshToken": False})
    history.shows("start/restored")


def refresh(history: History) -> None:
    """Ask for a refresh, which the issuer grants."""
    model, before = history.model, history.model.held
    if model.state is AuthState.CHATGPT and isinstance(before, Managed) and before.refresh in model.revoked_tokens:
        refresh_rejected(history)
        return
    must_send = model.must_send() and model.stored == model.held
    sent = len(history.sent_tokens())
    answer = history.call(READ, _ASK)
    history.check("answers/in-time", "result" in answer, str(answer))
    sent = len(history.sent_tokens()) - sent
    if not must_send:
        model.covered.add((model.state, Trigger.TOKENS_REFRESHED))
        history.check("refresh/not-asked", sent == 0, f"{sent} refresh tokens were sent")
        history.shows("refresh/not-asked")
        return
    assert isinstance(before, Managed)
    held = history.learn_stored("org-1")
    changed = before.access != held.access and before.refresh != held.refresh
    history.check("refresh/new-tokens", changed, "auth.json holds the old tokens")
    kept = UNKNOWN_MEMBER.items() <= history.home.content().items()
    if history.has_unknown_member:
        history.observe("store/unknown-members", kept, "the member `of_a_later_release` is gone")
    model.stored = _same_workspace(held, before)
    model.fire(Trigger.TOKENS_REFRESHED, model.stored)
    history.shows("refresh/new-tokens")
    history.observe("store/private", history.home.is_private(), "others may read auth.json")


def refresh_expired(history: History) -> None:
    """Use a stored login whose access token has expired."""
    refresh(history)
    history.check("refresh/expired", True)


def refresh_rejected(history: History) -> None:
    """Revoke everything at the issuer, and ask for a refresh three times."""
    model, kept = history.model, history.home.text()
    held, is_live = model.held, model.must_send()
    history.note("#", "the issuer signs everybody out")
    history.issuer.revoke()
    if isinstance(model.stored, Managed):
        model.revoked_tokens.add(model.stored.refresh)
    model.covered.add((model.state, Trigger.REFRESH_REJECTED))
    before = len(history.sent_tokens())
    for _ in range(3):
        history.call(READ, _ASK)
    sent = len(history.sent_tokens()) - before
    if not isinstance(held, Managed):
        history.check("refresh/not-asked", sent == 0, f"{sent} refresh tokens were sent")
        history.shows("refresh/not-asked")
        return
    again = f"it was sent {history.times_sent(held.refresh)} times"
    history.observe("refresh/permanent/never-retried", sent <= is_live, again)
    if model.state is AuthState.CHATGPT:
        model.fire(Trigger.REFRESH_REJECTED)
        model.refused_tokens.add(held.refresh)
    history.shows("refresh/permanent/shown")
    history.check("refresh/permanent/kept", history.home.text() == kept, "auth.json was changed")


def refresh_transient(history: History) -> None:
    """Ask for a refresh, which the issuer refuses for a reason that a sign-in does not fix."""
    history.note("#", "the issuer answers 403")
    history.issuer.behave("refresh", mode="status", status=403, code="unsupported_country_region_territory")
    sent = len(history.sent_tokens())
    history.call(READ, _ASK)
    history.not_processed += history.sent_tokens()[sent:]
    history.shows("refresh/transient")
    history.stores("refresh/transient")
    history.issuer.behave("refresh")


def refresh_killed(history: History) -> None:
    """Kill the server between its request for a refresh and the answer, start it again, and ask who is signed in."""
    held = history.model.held
    assert isinstance(held, Managed)
    history.note("#", "the issuer keeps its answer back")
    history.issuer.hold("refresh", "answer")
    history.server.begin(READ, _ASK)
    deadline = monotonic() + history.setting.patience
    while not history.times_sent(held.refresh):
        is_waiting = monotonic() < deadline and not history.server.ended.is_set()
        history.check("refresh/new-tokens", is_waiting, "no refresh token was sent to the issuer")
    history.stop(kill=True)
    history.issuer.release("refresh")
    history.stores("start/after-kill")
    history.start()
    history.call(READ, _ASK)
    times = history.times_sent(held.refresh)
    history.observe("refresh/killed", times == 1, f"it was sent {times} times")


def limits(history: History) -> None:
    """Read the rate limits."""
    answer = history.call(LIMITS)
    if history.model.mode in (None, "apikey"):
        history.refused("limits/refused", answer)
    elif history.model.state is not AuthState.REFRESH_DEAD:  # whose access token may have expired, or not
        history.check("limits/answer", "rateLimits" in answer.get("result", {}), str(answer))


def limits_after_401(history: History) -> None:
    """Let the backend refuse every token, and read the rate limits. The parent answers, if it is asked."""
    model, held = history.model, history.model.held
    given: list[External] = []
    workspace = held.workspace if isinstance(held, Managed | External) else "org-1"

    def answer_parent(_: Message) -> Message:
        params, tokens = external_tokens(history, workspace or "org-1")
        given.append(tokens)
        return {"result": params}

    answer = _refused_by_backend(history, answer_parent)
    if isinstance(held, External):
        history.check("recovery/parent-asked", len(given) == 1 and "result" in answer, f"{len(given)} times: {answer}")
        model.fire(Trigger.TOKENS_REFRESHED, given[0])
        history.shows("recovery/parent-asked")
    elif isinstance(held, Managed) and model.state is AuthState.CHATGPT:
        history.check("recovery/refreshed", "result" in answer, str(answer))
        model.stored = _same_workspace(history.learn_stored("org-1"), held)
        model.fire(Trigger.TOKENS_REFRESHED, model.stored)
        history.shows("recovery/refreshed")
    else:
        history.check("limits/refused", "error" in answer, str(answer))


def parent_refuses(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent refuse to give others."""
    _parent_fails(history, "recovery/parent-refuses", {"error": {"code": INVALID, "message": "no tokens"}})
    history.model.covered.add((AuthState.EXTERNAL_TOKENS, Trigger.REFRESH_REJECTED))


def parent_other_workspace(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent answer with those of another workspace."""
    _parent_fails(history, "recovery/parent-workspace", {"result": external_tokens(history, "org-2")[0]})


def parent_late(history: History) -> None:
    """Let the backend refuse external tokens, and let the parent answer after the server gave up."""
    asked = _parent_fails(history, "recovery/parent-late", None)
    history.server.send({"id": asked[0].get("id"), "result": external_tokens(history, "org-1")[0]})
    history.shows("recovery/parent-late")


def _parent_fails(history: History, name: str, reply: Message | None) -> list[Message]:
    assert history.model.state is AuthState.EXTERNAL_TOKENS
    asked: list[Message] = []

    def answer_parent(message: Message) -> Message | None:
        asked.append(message)
        return reply

    answer = _refused_by_backend(history, answer_parent)
    history.check("recovery/parent-asked", bool(asked), f"{PARENT_METHOD} was not sent: {json.dumps(answer)}")
    history.check(name, "error" in answer, str(answer))
    history.shows(name)
    return asked


def _refused_by_backend(history: History, parent: object) -> Message:
    history.note("#", "the backend refuses every token issued so far")
    history.issuer.expire_access()
    before, history.parent = history.parent, parent  # type: ignore[assignment]
    answer = history.call(LIMITS)
    history.parent = before
    return answer


def _same_workspace(new: Managed, old: Managed) -> Managed:
    return new._replace(workspace=old.workspace)
