"""Actions that sign in and out."""

import re
from typing import Any

import httpx

from authstate.adapters.conformance.connection import Message
from authstate.adapters.conformance.held import External, Key, Managed, violation
from authstate.adapters.conformance.history import COMPLETED, UPDATED, CheckFailed, History, NotApplicable
from authstate.adapters.conformance.reference import login_of
from authstate.engine.model.policy import LoginMethod
from authstate.engine.model.states import AuthState, Trigger

START, CANCEL = "account/login/start", "account/login/cancel"
_UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
_INPUT = re.compile(r'name="(\w+)" value="([^"]*)"')


def api_key(history: History) -> None:
    """Sign in with an API key."""
    key = Key(history.secret(f"sk-verify-{len(history.secrets)}-0123456789abcdef", "api-key"))
    answer = history.call(START, {"type": "apiKey", "apiKey": key.key})
    if not history.model.sign_in(key):
        _refused(history, answer)
        return
    history.check("login/api-key/answer", answer.get("result") == {"type": "apiKey"}, str(answer))
    _completed(history, "login/api-key/order", None)
    history.shows("login/api-key/read-back")
    history.stores("login/api-key/stored")


def external(history: History, members: tuple[str, ...] = (), workspace: str = "org-1") -> None:
    """Pass in external tokens: all members, or those of one dialect."""
    params, held = external_tokens(history, workspace)
    params = {name: value for name, value in params.items() if not members or name in members}
    was_pending = history.pending_login
    answer = history.call(START, {"type": "chatgptAuthTokens", **params})
    if violation(history.model.policy, held):
        history.model.fire(Trigger.USE_EXTERNAL_TOKENS, held)
        _refused(history, answer)
        return
    if members and "error" in answer:
        history.refused("login/external/answer", answer)
        history.refused_dialects += 1
        history.check("login/external/dialects", history.refused_dialects < 2, "both were refused")
        return
    history.check("login/external/answer", answer.get("result") == {"type": "chatgptAuthTokens"}, str(answer))
    if members:
        history.check("login/external/dialects", True)
    history.model.fire(Trigger.USE_EXTERNAL_TOKENS, held)
    history.pending_login = None
    if was_pending:
        failed = {"method": COMPLETED, "loginId": was_pending, "success": False}
        _completed(history, "login/external/ends-pending", None, anywhere=failed, early=True)
    else:
        _completed(history, "login/external/order", None)
    history.shows("login/external/read-back")
    found = history.home.files_with({params["accessToken"]})
    history.check("login/external/not-stored", not found, str(found))


def external_tokens(history: History, workspace: str) -> tuple[Message, External]:
    """New tokens as a parent passes them in, and what the model holds of them."""
    login = login_of(workspace)
    tokens = history.issuer.seed(**login)
    for kind in ("refresh_token", "access_token", "id_token"):
        history.secret(tokens[kind], kind.replace("_", "-"))
    named = {"idToken": tokens["id_token"], "accessToken": tokens["access_token"]}
    params = {**named, "chatgptAccountId": workspace, "chatgptPlanType": login["plan"]}
    return params, External(tokens["access_token"], workspace, None)


def external_other_account(history: History) -> None:
    """Pass in external tokens of another workspace."""
    external(history, workspace="org-2")


def external_of_0_93(history: History) -> None:
    """Pass in external tokens in the dialect of 0.93.0."""
    external(history, ("idToken", "accessToken"))


def external_of_0_169(history: History) -> None:
    """Pass in external tokens in the dialect of 0.169.0."""
    external(history, ("accessToken", "chatgptAccountId", "chatgptPlanType"))


def external_no_jwt(history: History) -> None:
    """Pass in external tokens that are no JWT."""
    params = {"type": "chatgptAuthTokens", "idToken": "x", "accessToken": "x", "chatgptAccountId": "org-1"}
    history.refused("login/external/no-jwt", history.call(START, params))
    history.shows("login/refused/changes-nothing")


def browser_start(history: History) -> str | None:
    """Start a browser login. Returns the address for the browser, or None if the login is refused as it must be."""
    answer = _start(history, "chatgpt", "login/browser")
    if _must_refuse_start(history):
        _refused(history, answer)
        return None
    result = answer.get("result", {})
    history.check("login/browser/answer", {"loginId", "authUrl"} <= result.keys(), str(answer))
    url: str = result["authUrl"]
    _started(history, result["loginId"])
    return url


def _start(history: History, kind: str, area: str) -> Message:
    """Start an interactive login, and return the answer."""
    answer = history.call(START, {"type": kind})
    if "unknown variant" in str(answer.get("error")):
        raise NotApplicable(area, f"the server has no login of the type {kind}")
    return answer


def _must_refuse_start(history: History) -> bool:
    """Whether a browser or device login must be refused now."""
    model = history.model
    refuses = model.state is AuthState.EXTERNAL_TOKENS or model.policy.forced_login_method is LoginMethod.API
    if refuses:
        model.covered.add((model.state, Trigger.COMPLETE_CHATGPT_LOGIN))
    return refuses


def _started(history: History, login_id: str) -> None:
    """Remember a login that is pending now, and check that it ended the one before."""
    before, history.pending_login = history.pending_login, login_id
    if before is not None:
        failed = {"method": COMPLETED, "loginId": before, "success": False}
        history.server.receive_until(lambda: bool(history.server.told), history.setting.grace)
        history.told("login/browser/second-start", failed, early=True)


def browser(history: History, workspace: str = "org-1") -> None:
    """Sign in with the browser: the person agrees."""
    url = browser_start(history)
    if url is None:
        return
    history.issuer.set_person(**login_of(workspace))
    _visit(history, url, "agree")
    _signed_in(history, "login/browser", workspace)


def browser_other_account(history: History) -> None:
    """Sign in with the browser to another workspace."""
    browser(history, "org-2")


def browser_declined(history: History) -> None:
    """Start a browser login, and decline it on the page."""
    if (url := browser_start(history)) is not None:
        _visit(history, url, "decline")
        _failed(history, "login/browser/declined")


def browser_cancelled(history: History) -> None:
    """Start a browser login, and cancel it."""
    if browser_start(history) is not None:
        answer = history.call(CANCEL, {"loginId": history.pending_login})
        history.check("login/browser/cancelled", answer.get("result") == {"status": "canceled"}, str(answer))
        _failed(history, "login/browser/cancelled", early=True)


def browser_pending(history: History) -> None:
    """Start a browser login, and leave it pending."""
    browser_start(history)


def device(history: History) -> None:
    """Sign in with a device code."""
    answer = _start(history, "chatgptDeviceCode", "login/device")
    if _must_refuse_start(history):
        _refused(history, answer)
        return
    result = answer.get("result", {})
    history.check("login/device/answer", {"loginId", "verificationUrl", "userCode"} <= result.keys(), str(answer))
    _started(history, result["loginId"])
    history.note("#", "the person enters the code of the device")
    history.issuer.approve_device(result["userCode"], **login_of("org-1"))
    _signed_in(history, "login/device", "org-1")


def cancel_unknown(history: History) -> None:
    """Cancel logins that do not exist."""
    answer = history.call(CANCEL, {"loginId": _UNKNOWN_ID})
    history.check("login/cancel/unknown", answer.get("result") == {"status": "notFound"}, str(answer))
    history.refused("login/cancel/no-uuid", history.call(CANCEL, {"loginId": "no-uuid"}))


def log_out(history: History) -> None:
    """Sign out."""
    replaced = history.model.stored
    pending, history.pending_login = history.pending_login, None
    revocations = history.issuer.stats()["revocations"]
    answer = history.call("account/logout")
    history.check("logout/answer", answer.get("result") == {}, str(answer))
    history.model.log_out()
    updated = {"method": UPDATED, "authMode": None}
    if pending is None:
        history.told("logout/order", updated)
    else:
        history.pending_login = pending  # a logout says nothing of a pending login
        history.server.told.clear()
    history.shows("logout/read-back")
    left = history.home.files_with(set(history.secrets))
    history.check("logout/nothing-left", not left, f"secrets are left in {sorted(left)}")
    if isinstance(replaced, Managed) and replaced.refresh not in history.model.revoked_tokens:
        revoked = history.eventually(lambda: history.issuer.stats()["revocations"] > revocations)
        history.observe("logout/revoked", revoked, "the issuer got no request to revoke it")


def _visit(history: History, url: str, button: str) -> None:
    """Stand for the person with a browser: open the page, press a button, and follow the redirects."""
    if not url.startswith(f"{history.issuer.url}/"):
        raise NotApplicable("login/browser", "the server cannot be pointed at another issuer for its browser login")
    history.note("#", f"open authUrl in a browser, and press {button}")
    try:
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=history.setting.patience) as client:
            fields = dict(_INPUT.findall(client.get(url).text))
            client.post(f"{history.issuer.url}/oauth/authorize", data={**fields, "answer": button})
    except httpx.HTTPError as error:
        raise CheckFailed("login/browser/answer", f"the browser cannot return: {error}") from None


def _signed_in(history: History, area: str, workspace: str) -> None:
    """Check the end of an interactive login that the issuer granted. It fails if the workspace is forbidden."""
    login_id = history.pending_login
    server = history.server
    # A device login ends when its next poll is answered, so this one waits as for an answer.
    server.receive_until(lambda: any(one["method"] == COMPLETED for one in server.told), history.setting.patience)
    forced = history.model.policy.forced_workspaces
    if forced and workspace not in forced:
        _failed(history, f"{area}/workspace", early=True)
        return
    history.pending_login = None
    completed = next((one for one in server.told if one["method"] == COMPLETED), {})
    right = completed.get("params", {}).get("success") is True
    history.check(f"{area}/order", right, f"the login must succeed: {completed}")
    held = history.learn_stored(workspace)
    accepted = history.model.sign_in(held)
    assert accepted
    _completed(history, f"{area}/order", login_id, early=True)
    history.shows(f"{area}/read-back")
    history.check("login/browser/stored", held.refresh != "none", "auth.json holds no tokens")
    history.stores("login/browser/stored")


def _failed(history: History, name: str, early: bool = False) -> None:
    """Check the end of an interactive login that failed."""
    login_id, history.pending_login = history.pending_login, None
    history.told(name, {"method": COMPLETED, "loginId": login_id, "success": False}, early=early)
    history.shows("login/refused/changes-nothing")
    history.stores("login/refused/changes-nothing")


def _completed(
    history: History, name: str, login_id: str | None, anywhere: dict[str, Any] | None = None, early: bool = False
) -> None:
    completed = {"method": COMPLETED, "loginId": login_id, "success": True}
    updated = {"method": UPDATED, "authMode": history.model.mode, "planType": history.model.plan}
    history.told(name, completed, updated, anywhere=anywhere, early=early)


def _refused(history: History, answer: Message) -> None:
    """Check a login that must be refused."""
    is_external = history.model.state is AuthState.EXTERNAL_TOKENS
    history.refused("login/refused/external" if is_external else "login/refused/policy", answer)
    history.told("login/refused/changes-nothing")
    history.shows("login/refused/changes-nothing")
    history.stores("login/refused/changes-nothing")
