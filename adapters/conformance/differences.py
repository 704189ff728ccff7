"""Where codex and authstate answer differently, each with its reason. What is not listed here must be the same."""

import re
from typing import Any, NamedTuple

OLD, NEW = "0.93.0", "0.169.0"
VERSIONS = (OLD, NEW)
"""The first release with external tokens, and the one that authstate follows."""

_READ, _LIMITS, _UPDATED = "account/read", "account/rateLimits/read", "account/updated"
_COMPLETED, _START = "account/login/completed", "account/login/start"

_NEWER = "came after 0.93.0; a client of 0.93.0 ignores it"
_MANAGED_RECOVERY = tuple(f"recovery/{name}" for name in ("refreshed", "reloaded", "rejected", "transient", "ends"))
_ROUTING = "of the backend's routing of a workspace, which is not part of the login"
_BILLING = "of what the client may buy or spend, which is not part of the login; optional in the schema"

CODEX_MEMBERS: dict[tuple[str, str, str], str] = {
    (NEW, _READ, "userId"): "of later releases, optional in the schema; nothing in the account API takes it back",
    (NEW, _READ, "workspaceRouting"): _ROUTING,
    (NEW, _READ, "workspaceName"): _ROUTING,
    (NEW, _COMPLETED, "onboardingEntrypoint"): "of the client's onboarding screens, optional in the schema",
    (NEW, _LIMITS, "ordinaryUsageAllowed"): _BILLING,
    (NEW, _LIMITS, "normalModelSlug"): _BILLING,
    (NEW, _LIMITS, "individualLimit"): _BILLING,
    (NEW, _LIMITS, "spendControlReached"): _BILLING,
    (NEW, _LIMITS, "rateLimitReachedType"): _BILLING,
    (NEW, _LIMITS, "rateLimitResetCredits"): _BILLING,
    (NEW, _LIMITS, "accountId"): _BILLING,
    (NEW, _LIMITS, "rateLimitUpsell"): _BILLING,
}
"""Members that only codex sends: (version, method of the answer or notification, name at any depth) -> reason."""

AUTHSTATE_MEMBERS: dict[tuple[str, str, str], str] = {
    (OLD, "initialize", "codexHome"): _NEWER,
    (OLD, "initialize", "platformFamily"): _NEWER,
    (OLD, "initialize", "platformOs"): _NEWER,
    (OLD, _UPDATED, "planType"): _NEWER,
    (OLD, _LIMITS, "limitId"): _NEWER,
    (OLD, _LIMITS, "limitName"): _NEWER,
    (OLD, _LIMITS, "rateLimitsByLimitId"): _NEWER,
}
"""Members that only authstate sends, because 0.169.0 does."""


class Difference(NamedTuple):
    """One outcome that differs: in these versions and (scene, step) places, codex and authstate do this."""

    versions: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    codex: Any
    authstate: Any
    reason: str
    checks: tuple[str, ...] = ()
    """The checks of `authstate verify` that such a release fails for this."""


ANY = "any result"
"""Stands for a result, whatever it is."""

_OURS_AT_START: list[Any] = [("initialize", ANY)]
_STEP_START = "initialize"
_PERSON = {"type": "chatgpt", "email": "person@example.com", "planType": "plus"}
_NOBODY = [(_READ, {"account": None, "requiresOpenaiAuth": True})]


def _shown(**account: str) -> list[Any]:
    return [(_READ, {"account": {**_PERSON, **account}, "requiresOpenaiAuth": True})]


def _status(token: str | None) -> list[Any]:
    return [("getAuthStatus", {"authMethod": "chatgpt", "authToken": token, "requiresOpenaiAuth": True})]


def _announced(plan: str) -> list[Any]:
    return [*_OURS_AT_START, (_UPDATED, {"authMode": "chatgpt", "planType": plan})]


def _at_start(plan: str, *scenes: str) -> Difference:
    return Difference(
        (NEW,),
        tuple((scene, _STEP_START) for scene in scenes),
        codex=_announced(plan),
        authstate=_OURS_AT_START,
        reason="0.169.0 announces a stored login that it checked at the backend when it starts; the account API tells "
        "of logins and logouts, a stored login is neither, and nothing is asked before a client wants it",
        checks=("start/nothing-unasked",),
    )


DIFFERENCES: tuple[Difference, ...] = (
    _at_start("plus", "revoked refresh token", "expired and revoked", "external tokens"),
    _at_start("pro", "managed login"),
    _at_start("enterprise", "plan of health care"),
    _at_start("edu", "plan of education"),
    _at_start("unknown", "plan nobody knows"),
    Difference(
        VERSIONS,
        (("api key", "blank key"),),
        codex=[
            (_START, {"type": "apiKey"}),
            (_COMPLETED, {"loginId": None, "success": True, "error": None}),
            (_UPDATED, ANY),
        ],
        authstate=[(_START, -32600)],
        reason="a key of white space can never work: storing it would replace a login that does",
        checks=("input/blank-key",),
    ),
    Difference(
        VERSIONS,
        (("api key", "no params"),),
        codex=[(_READ, -32600)],
        authstate=[(_READ, {"account": {"type": "apiKey"}, "requiresOpenaiAuth": True})],
        reason="every member of `params` is optional, so its absence says no less",
        checks=("input/no-params",),
    ),
    Difference(
        VERSIONS,
        (("managed login", "limits after a 401"),),
        codex=[(_LIMITS, -32603)],
        authstate=[(_LIMITS, ANY)],
        reason="codex runs its 401 recovery in turns only; here every authorized request goes through it",
        checks=_MANAGED_RECOVERY,
    ),
    Difference(
        VERSIONS,
        (("external tokens", "limits after a 401"),),
        codex=[(_LIMITS, -32603)],
        authstate=[
            (_LIMITS, ANY),
            ("account/chatgptAuthTokens/refresh", {"reason": "unauthorized", "previousAccountId": "org-1"}),
        ],
        reason="the same: the parent is asked, and the request is sent again",
        checks=("recovery/parent-asked",),
    ),
    Difference(
        (OLD,),
        (
            ("revoked refresh token", "refresh"),
            ("revoked refresh token", "read again"),
            ("expired and revoked", "refresh"),
        ),
        codex=_shown(),
        authstate=_NOBODY,
        reason="a login that cannot be refreshed ends with its access token: the client must offer a new one, as it "
        "does for releases from 0.150.0 on",
        checks=("refresh/permanent/shown",),
    ),
    Difference(
        (OLD,),
        (("revoked refresh token", "status"), ("expired and revoked", "status")),
        codex=_status("TOKEN"),
        authstate=_status(None),
        reason="the same",
    ),
    Difference(
        (OLD,),
        (("plan of health care", "signed in"),),
        codex=_shown(planType="unknown"),
        authstate=_shown(planType="enterprise"),
        reason="0.93.0 does not know the name yet",
    ),
    Difference(
        (OLD,),
        (("plan of education", "signed in"),),
        codex=_shown(planType="unknown"),
        authstate=_shown(planType="edu"),
        reason="0.93.0 does not know the name yet",
    ),
    Difference(
        (OLD,),
        (("stored key, forced to chatgpt", "nobody"),),
        codex=[(_READ, {"account": {"type": "apiKey"}, "requiresOpenaiAuth": True})],
        authstate=_NOBODY,
        reason="0.93.0 holds new logins to the policy and lets stored credentials pass; a policy holds for both",
        checks=("start/policy",),
    ),
    Difference(
        (NEW,),
        (("external tokens", "no JWT"),),
        codex=[(_START, -32603)],
        authstate=[(_START, -32600)],
        reason="what the client sent is at fault, not the server",
        checks=("login/external/no-jwt",),
    ),
)


def listed(version: str, scene: str, step: str) -> Difference | None:
    """The difference that is listed for a step, None where the answers must be the same."""
    found = [item for item in DIFFERENCES if version in item.versions and (scene, step) in item.places]
    return found[0] if found else None


def documented(user_agent: str) -> dict[str, str]:
    """Return the checks that this server is known to fail, and why. Empty for a server that is no codex.

    Args:
        user_agent: of the answer to `initialize`. A release counts as the newest of `VERSIONS` that is not newer.
    """
    found = re.match(r"[^/]*/(\d+)\.(\d+)\.", user_agent)
    if found is None or " authstate (" in user_agent:
        return {}
    release = (int(found[1]), int(found[2]))
    version = NEW if release >= _release(NEW) else OLD
    if release < _release(OLD):
        return {}
    found_in = [item for item in DIFFERENCES if version in item.versions]
    return {check: item.reason for item in found_in for check in item.checks}


def _release(version: str) -> tuple[int, int]:
    major, minor, _ = version.split(".")
    return int(major), int(minor)
