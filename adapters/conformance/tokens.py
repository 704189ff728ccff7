"""Actions that refresh, and that the issuer refuses."""

from time import monotonic

from authstate.adapters.conformance.held import Managed
from authstate.adapters.conformance.history import READ, History
from authstate.adapters.conformance.home import UNKNOWN_MEMBER
from authstate.engine.model.states import AuthState, Trigger

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
    history.eventually(lambda: _has_new_tokens(history, before))  # a server may answer before a slow refresh has ended
    held = took_new_tokens(history, before)
    changed = before.access != held.access and before.refresh != held.refresh
    history.check("refresh/new-tokens", changed, "auth.json holds the old tokens")
    kept = UNKNOWN_MEMBER.items() <= history.home.content().items()
    if history.has_unknown_member:
        history.observe("store/unknown-members", kept, "the member `of_a_later_release` is gone")
    history.shows("refresh/new-tokens")
    history.observe("store/private", history.home.is_private(), "others may read auth.json")


def _has_new_tokens(history: History, before: Managed) -> bool:
    """Whether other tokens than before are stored and shown."""
    stored = history.home.stored()
    if not isinstance(stored, Managed) or stored.refresh == before.refresh:
        return False
    status = history.call_quietly("getAuthStatus", {"includeToken": True, "refreshToken": False})
    return bool(status.get("result", {}).get("authToken") != before.access)


def refresh_expired(history: History) -> None:
    """Use a stored login whose access token has expired."""
    refresh(history)
    history.check("refresh/expired", True)


def revoke_all(history: History) -> None:
    """Sign everybody out at the issuer."""
    history.note("#", "the issuer signs everybody out")
    history.issuer.revoke()
    if isinstance(history.model.stored, Managed):
        history.model.revoked_tokens.add(history.model.stored.refresh)


def refresh_rejected(history: History) -> None:
    """Revoke everything at the issuer, and ask for a refresh three times."""
    model, kept = history.model, history.home.text()
    held, is_live = model.held, model.must_send()
    revoke_all(history)
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
    must_send = history.model.must_send() and not history.model.was_refused_for_now
    refuse_for_now(history)
    sent = len(history.sent_tokens())
    history.call(READ, _ASK)
    if must_send:
        history.eventually(lambda: len(history.sent_tokens()) > sent)
    history.not_processed += history.sent_tokens()[sent:]
    history.shows("refresh/transient")
    history.stores("refresh/transient")
    history.issuer.behave("refresh")


def refuse_for_now(history: History) -> None:
    """Let the issuer refuse refreshes for a reason that a sign-in does not fix, until it behaves otherwise."""
    history.model.was_refused_for_now = True
    history.note("#", "the issuer answers 403")
    history.issuer.behave("refresh", mode="status", status=403, code="unsupported_country_region_territory")


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


def took_new_tokens(history: History, before: Managed) -> Managed:
    """Read the tokens that a refresh brought. The model uses them from now on."""
    model = history.model
    model.stored = history.learn_stored(before.workspace or "org-1")
    model.fire(Trigger.TOKENS_REFRESHED, model.stored)
    model.was_refused_for_now = False
    return model.stored
