"""What the loopback issuer knows: logins, tokens, codes, devices, and how its endpoints are to behave.

Only the standard library: a fast start.
"""

import hashlib
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from typing import Any, cast

from authstate.adapters.testing import consent_page
from authstate.adapters.testing.fake_model import turn_for
from authstate.adapters.testing.jwt import account_claims, make_jwt
from authstate.adapters.testing.model_wire import chat_answer, responses_answer
from authstate.adapters.testing.transcript import Transcript, tokens_of

Json = dict[str, Any]
Answer = tuple[int, Json]
EVENTS = "server-sent events"
"""The member of an answer that is its body: a list of events, which are sent one by one."""
REFUSAL = "refusal"
"""... the event that ends the stream in the middle if the token is refused there."""
PAGE = "page"
"""... its body, as HTML."""
REDIRECT = "redirect"
"""... the URL that it redirects to."""


class IssuerState:
    """The state of the process. Every method is called with the lock held."""

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        self._was_released = threading.Condition(self.lock)
        self.logins: dict[str, Json] = {}
        self.dead: dict[str, str] = {}
        self.access: dict[str, Json] = {}
        self.codes: dict[str, Json] = {}
        self.devices: dict[str, Json] = {}
        self.person: Json = _login({})
        self.behaviours: dict[str, Json] = {}
        self.releases: Counter[str] = Counter()
        """How often an endpoint was released."""
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.sent: list[str] = []
        self.accepted_at: list[float] = []
        self.model_served: list[str] = []
        self.transcript: Transcript = Transcript()
        self.has_ended: bool = False

    def issue(self, login: Json, expires_in: float | None) -> Json:
        """Issue new tokens for a login. Their refresh token is valid from now on.

        A login without `auth_time` is a new sign-in. A refresh keeps its time, as OpenID Connect Core 12.2 says.
        """
        login = {"auth_time": time.time(), **login}
        names = (login.get("email"), login.get("account_id"), login.get("user_id"), login.get("plan"))
        claims = account_claims(*names)
        expiry = {} if expires_in is None else {"exp": int(time.time() + expires_in)}
        tokens = {
            "id_token": make_jwt(**claims, jti=secrets.token_hex(8), auth_time=login["auth_time"]),
            "access_token": make_jwt(**claims, jti=secrets.token_hex(8), **expiry),
            "refresh_token": "rt_" + secrets.token_urlsafe(32),
        }
        self.logins[tokens["refresh_token"]] = login
        self.access[tokens["access_token"]] = {**login, "exp": expiry.get("exp")}
        tokens_of(self.transcript, tokens)
        return tokens

    def refresh(self, body: Json) -> Answer:
        token = body.get("refresh_token")
        token = token if isinstance(token, str) else ""
        login = self.logins.pop(token, None)
        if login is None:
            self.counts["refreshes_refused"] += 1
            return 401, error(self.dead.get(token, "refresh_token_unknown"))
        self.dead[token] = "refresh_token_reused"
        self.counts["refreshes_accepted"] += 1
        answer = self.issue(login, login.get("next_expires_in", 3600))
        self.accepted_at.append(time.monotonic())
        return 200, answer

    def authorize(self, asked: Json) -> Answer:
        fault = consent_page.fault(asked)
        return (400, error(fault)) if fault else (200, {PAGE: consent_page.page(asked, self.person["email"])})

    def consent(self, form: Json) -> Answer:
        if form.get("answer") != "agree":
            return 303, {REDIRECT: consent_page.redirect_url(form, **consent_page.DECLINED)}
        code = "ac_" + secrets.token_urlsafe(16)
        bound = {name: form.get(name) for name in ("code_challenge", "redirect_uri")}
        self.codes[code] = {**self.person_of(form), **bound}
        return 303, {REDIRECT: consent_page.redirect_url(form, code=code)}

    def person_of(self, form: Json) -> Json:
        """Return the login of the person who agreed on the page."""
        return self.person

    def exchange(self, form: Json) -> Answer:
        grant = self.codes.pop(form.get("code", ""), None)
        if grant is None or not _matches(grant, form):
            return 400, {"error": "invalid_grant", "error_description": "the code is unknown, used or not yours"}
        self.counts["exchanges"] += 1
        return 200, self.issue(grant, grant.get("expires_in", 3600))

    def revoke_one(self, body: Json) -> Answer:
        self.counts["revocations"] += 1
        token = body.get("token")
        if isinstance(token, str) and self.logins.pop(token, None) is not None:
            self.dead[token] = "refresh_token_invalidated"
        return 200, {}

    def whoami(self, bearer: str) -> Answer:
        login = self.access.get(bearer)
        if login is None or "is_personal" not in login:
            return 401, error("invalid_token")
        names = {"chatgpt_user_id": "user_id", "chatgpt_account_id": "account_id", "chatgpt_plan_type": "plan"}
        answer = {name: login[member] for name, member in names.items()}
        return 200, {"email": login["email"], **answer, "chatgpt_account_is_fedramp": False}

    def device_start(self) -> Answer:
        number = len(self.devices) + 1
        device: Json = {"device_auth_id": f"device-{number}", "user_code": f"ABCD-{number:04}", "login": None}
        self.devices[device["device_auth_id"]] = device
        return 200, {**{name: device[name] for name in ("device_auth_id", "user_code")}, "interval": "1"}

    def device_poll(self, body: Json) -> Answer:
        device = self.devices.get(str(body.get("device_auth_id")))
        if device is None or device["user_code"] != body.get("user_code") or device["login"] is None:
            return 403, error("deviceauth_authorization_pending")
        verifier = secrets.token_urlsafe(32)
        code, challenge = "ac_" + secrets.token_urlsafe(16), _challenge(verifier)
        self.codes[code] = {**device["login"], "code_challenge": challenge}
        return 200, {"authorization_code": code, "code_challenge": challenge, "code_verifier": verifier}

    def backend(self, path: str, method: str, bearer: str, account: str | None, size: int) -> Answer:
        login = self.access.get(bearer)
        if login is None or (login["exp"] is not None and login["exp"] <= time.time()):
            self.counts["backend_refused"] += 1
            return 401, error("token_expired")
        self.counts["backend_accepted"] += 1
        if path == "/v1/models":
            return 200, {
                "object": "list",
                "data": [{"id": "gpt-5", "object": "model", "created": 0, "owned_by": "test"}],
            }
        if path.endswith("/usage"):
            return 200, _usage(login.get("plan"))
        if path.endswith("/wham/accounts/check"):
            row = {"id": login.get("account_id"), "account_routing_override": "NO_CONSTRAINT"}
            return 200, {"accounts": [{**row, "workspace_backend_origin": "https://backend.invalid"}]}
        return 200, {"method": method, "path": path, "bytes": size, "account_id": account, "email": login.get("email")}

    def model(self, path: str, bearer: str, body: Json) -> Answer:
        status, refusal = self.backend(path, "POST", bearer, None, 0)
        if status != 200:
            return status, refusal
        self.model_served.append(str(self.access[bearer].get("email")))
        turn, name, number = turn_for(body), str(body.get("model", "gpt-5")), self.requests[path]
        if path.endswith("/chat/completions"):
            options: object = body.get("stream_options")
            with_usage = isinstance(options, dict) and bool(cast("Json", options).get("include_usage"))
            answer = chat_answer(turn, name, number, with_usage=with_usage)
        else:
            answer = responses_answer(turn, name, number)
        if turn.expires:
            self.access.clear()
        return 200, {EVENTS: answer.events, REFUSAL: answer.refusal} if body.get("stream") is True else answer.whole

    def control(self, path: str, body: Json) -> Answer:
        if path == "/control/stats":
            names = ("refreshes_accepted", "refreshes_refused", "refreshes_failed", "exchanges", "revocations")
            counts = {name: self.counts[name] for name in (*names, "backend_accepted", "backend_refused")}
            lists = {"refresh_tokens_sent": self.sent, "refreshes_accepted_at": self.accepted_at}
            lists |= {"model_served": self.model_served}
            return 200, {**counts, "requests": dict(self.requests), **lists}
        if path == "/control/transcript":
            return 200, {"lines": [*self.transcript]}
        if path == "/control/transcript/clear":
            self.transcript.clear()
            return 200, {}
        if path == "/control/seed":
            login = _login(body)
            return 200, {**self.issue(login, login.get("expires_in", 3600)), "account_id": login["account_id"]}
        if path == "/control/token":
            self.access[body["token"]] = {**_login(body), "exp": None, "is_personal": True}
            self.transcript.name("key", body["token"])
        elif path == "/control/code":
            self.codes[body["code"]] = _login(body)
        elif path == "/control/person":
            self.person = _login(body)
        elif path == "/control/device":
            for device in self.devices.values():
                if device["user_code"] == body["user_code"]:
                    device["login"] = _login(body)
        elif path == "/control/expire-access":
            self.access.clear()
        elif path == "/control/revoke":
            self.dead |= dict.fromkeys(self.logins, body.get("code") or "refresh_token_invalidated")
            self.logins.clear()
        elif path == "/control/behaviour":
            self.behaviours |= body
        elif path == "/control/release":
            self.behaviours.pop(body["endpoint"], None)
            self.releases[body["endpoint"]] += 1
            self._was_released.notify_all()
        else:
            return 404, error("no_such_control")
        return 200, {}

    def end(self) -> None:
        """Let every request go on that is held: another state takes the place of this one."""
        self.has_ended = True
        self._was_released.notify_all()

    def behaviour(self, endpoint: str) -> Json:
        """Return how the endpoint answers this request."""
        behaviour = self.behaviours.get(endpoint) or {"mode": "normal"}
        if "times" in behaviour:
            behaviour["times"] -= 1
            if behaviour["times"] <= 0:
                self.behaviours.pop(endpoint)
        return behaviour

    def wait_for_release(self, endpoint: str, releases: int) -> None:
        """Wait until the endpoint has been released more than `releases` times."""
        self._was_released.wait_for(lambda: self.has_ended or self.releases[endpoint] > releases)


def _login(body: Json) -> Json:
    return {"account_id": "org-1", "email": "person@example.com", "user_id": "user-1", "plan": "plus", **body}


def error(code: str) -> Json:
    """Return the body of a refusal, as the issuer sends it."""
    return {"error": {"code": code, "message": "refused by the loopback issuer"}}


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _matches(grant: Json, form: Json) -> bool:
    if grant.get("redirect_uri") not in (None, form.get("redirect_uri")):
        return False
    return grant.get("code_challenge") in (None, _challenge(form.get("code_verifier", "")))


_RESET_AT = 1_900_000_000


def _usage(plan: object) -> Json:
    def window(percent: float, minutes: int) -> Json:
        reset = {"reset_after_seconds": max(0, _RESET_AT - int(time.time())), "reset_at": _RESET_AT}
        return {"used_percent": percent, "limit_window_seconds": minutes * 60, **reset}

    def limit(primary: Json, secondary: Json | None) -> Json:
        # codex refuses an answer without `allowed`, `limit_reached` or `reset_after_seconds`.
        return {"allowed": True, "limit_reached": False, "primary_window": primary, "secondary_window": secondary}

    other = {"limit_name": "codex_other", "metered_feature": "codex_other", "rate_limit": limit(window(88, 30), None)}
    return {
        "plan_type": plan,
        "rate_limit": limit(window(42, 300), window(5, 10080)),
        "credits": {"has_credits": True, "unlimited": False, "balance": "17.5"},
        "additional_rate_limits": [other],
    }
