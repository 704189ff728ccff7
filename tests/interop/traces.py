"""The traces of account requests that codex and authstate answer side by side, and what is compared.

A scene is a home and a list of steps. What is compared of a step is its outcome: the result, or the code of the error
(each program words its own messages), and the account notifications that followed, with what differs in every run
replaced: tokens, login ids, the home, the name after the client's in `userAgent`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from support.wire_client import INITIALIZE, Message, WireClient, clean_environment

from authstate.testing import LoopbackIssuer

EXTERNAL = "external tokens"
"""Stands for the parameters of a login with new external tokens, in the superset that both versions accept."""
UNKNOWN_LOGIN = "00000000-0000-4000-8000-000000000000"


class Step(NamedTuple):
    """One request. `params` may be EXTERNAL; `before` prepares the issuer."""

    name: str
    method: str
    params: Any = None
    before: Callable[[LoopbackIssuer], None] | None = None


class Scene(NamedTuple):
    """A home (the arguments of the fixture `make_home`) and the steps, in order."""

    name: str
    home: dict[str, Any]
    steps: Sequence[Step]


def _read(name: str, refresh: bool = False) -> Step:
    return Step(name, "account/read", {"refreshToken": refresh})


def _status(name: str, refresh: bool = False) -> Step:
    return Step(name, "getAuthStatus", {"includeToken": True, "refreshToken": refresh})


_START = (Step("initialize", "initialize", INITIALIZE),)
_KEY_LOGIN = {"type": "apiKey", "apiKey": "sk-interop-1"}
_SIGN_IN = Step("sign in", "account/login/start", _KEY_LOGIN)
_NO_JWT = {"type": "chatgptAuthTokens", "idToken": "x", "accessToken": "x", "chatgptAccountId": "org-1"}
_LIMITS = "account/rateLimits/read"
_REVOKE = LoopbackIssuer.revoke
_EXPIRE = LoopbackIssuer.expire_access

SCENES: tuple[Scene, ...] = (
    Scene(
        "api key",
        {},
        (
            _read("too early"),
            *_START,
            Step("initialize again", "initialize", INITIALIZE),
            _read("nobody"),
            _status("status of nobody"),
            Step("limits of nobody", _LIMITS),
            Step("blank key", "account/login/start", {"type": "apiKey", "apiKey": "  "}),
            _SIGN_IN,
            _read("signed in"),
            _status("status"),
            _read("refresh does nothing", refresh=True),
            Step("limits with a key", _LIMITS),
            Step("no such method", "account/nonsense", {}),
            Step("no such login type", "account/login/start", {"type": "nonsense"}),
            Step("missing field", "account/login/start", {"type": "apiKey"}),
            Step("no params", "account/read"),
            Step("cancel no uuid", "account/login/cancel", {"loginId": "no-uuid"}),
            Step("cancel unknown", "account/login/cancel", {"loginId": UNKNOWN_LOGIN}),
            Step("log out", "account/logout"),
            _read("signed out"),
            Step("log out again", "account/logout"),
        ),
    ),
    Scene(
        "managed login",
        {"email": "person@example.com", "plan": "pro"},
        (
            *_START,
            _read("signed in"),
            _read("refresh", refresh=True),
            _status("status"),
            Step("limits", _LIMITS),
            Step("limits after a 401", _LIMITS, before=_EXPIRE),
            Step("log out", "account/logout"),
            _read("signed out"),
        ),
    ),
    Scene(
        "revoked refresh token",
        {"email": "person@example.com"},
        (
            *_START,
            Step("refresh", "account/read", {"refreshToken": True}, before=_REVOKE),
            _status("status"),
            _read("read again"),
        ),
    ),
    Scene(
        "expired and revoked",
        {"email": "person@example.com", "expires_in": -60},
        (*_START, Step("refresh", "account/read", {"refreshToken": True}, before=_REVOKE), _status("status")),
    ),
    Scene("plan of health care", {"email": "person@example.com", "plan": "hc"}, (*_START, _read("signed in"))),
    Scene("plan of education", {"email": "person@example.com", "plan": "education"}, (*_START, _read("signed in"))),
    Scene("plan nobody knows", {"email": "person@example.com", "plan": "galactic"}, (*_START, _read("signed in"))),
    Scene("corrupt auth.json", {"raw": "{"}, (*_START, _read("nobody"), _SIGN_IN)),
    Scene(
        "stored key, forced to chatgpt",
        {"auth": {"OPENAI_API_KEY": "sk-interop-2"}, "config": 'forced_login_method = "chatgpt"\n'},
        (*_START, _read("nobody")),
    ),
    Scene("older file", {"auth": {"OPENAI_API_KEY": "sk-interop-2"}}, (*_START, _read("signed in"), _status("status"))),
    Scene(
        "external tokens",
        {"email": "owner@example.com"},
        (
            *_START,
            Step("sign in", "account/login/start", EXTERNAL),
            _read("signed in"),
            _read("refresh does nothing", refresh=True),
            _status("status"),
            Step("key refused", "account/login/start", _KEY_LOGIN),
            Step("browser refused", "account/login/start", {"type": "chatgpt"}),
            Step("limits", _LIMITS),
            Step("limits after a 401", _LIMITS, before=_EXPIRE),
            Step("no JWT", "account/login/start", _NO_JWT),
            Step("new tokens", "account/login/start", EXTERNAL),
            Step("log out", "account/logout"),
            _read("signed out"),
        ),
    ),
    Scene(
        "forced to chatgpt",
        {"config": 'forced_login_method = "chatgpt"\n'},
        (*_START, Step("key refused", "account/login/start", _KEY_LOGIN), _read("nobody")),
    ),
    Scene(
        "forced to api",
        {"config": 'forced_login_method = "api"\n'},
        (
            *_START,
            Step("browser refused", "account/login/start", {"type": "chatgpt"}),
            Step("external refused", "account/login/start", EXTERNAL),
            _SIGN_IN,
        ),
    ),
    Scene(
        "forced workspace",
        {"config": 'forced_chatgpt_workspace_id = "org-other"\n'},
        (*_START, Step("external refused", "account/login/start", EXTERNAL), _read("nobody")),
    ),
    Scene(
        "custom provider",
        {"config": 'model_provider = "mine"\n[model_providers.mine]\nname = "Mine"\nbase_url = "http://127.0.0.1:9"\n'},
        (*_START, _read("nobody")),
    ),
)


def external_tokens(issuer: LoopbackIssuer) -> Message:
    """Tokens as a parent passes them in, good at the backend."""
    tokens = issuer.seed(email="owner@example.com", plan="team")
    named = {"idToken": tokens["id_token"], "accessToken": tokens["access_token"]}
    return {**named, "chatgptAccountId": tokens["account_id"], "chatgptPlanType": "team"}


class Played(NamedTuple):
    """What came of a scene: the outcome of each step, and all that the program sent.

    An outcome is a list of pairs: the step's method with its result or error code, then each notification's or
    request's method with its parameters.
    """

    outcomes: dict[str, list[Any]]
    received: list[Message]
    methods: dict[Any, str]
    """The method of each request that was sent, by its id."""


def play(
    scene: Scene, command: Sequence[str], home: Path, issuer: LoopbackIssuer, told: Mapping[str, int] | None = None
) -> Played:
    """Run a scene.

    Args:
        told: how many messages the program is expected to send after a step, by the step's name: they are waited for.
            By default those that authstate owes its client: two after a login, one after a logout. More than that, and
            what comes where nothing is expected, is seen only when it comes soon.
    """
    outcomes: dict[str, list[Any]] = {}

    def answer(_: Message) -> Message:
        return {"result": external_tokens(issuer)}

    with WireClient(command, clean_environment(home, **issuer.environment), answer=answer) as client:
        for step in scene.steps:
            if step.before:
                step.before(issuer)
            params = step.params
            if params == EXTERNAL:
                params = {"type": "chatgptAuthTokens", **external_tokens(issuer)}
            seen = len(client.received)
            outcome = client.call(step.method, params)
            if step.method in _TELLING:
                expected = _owed(step, outcome) if told is None else told.get(step.name, 0)
                client.drain(_QUIET, after=partial(_have_come, client, seen, expected))
            if step.method == "initialize":
                client.send({"method": "initialized"})
            messages = [_told(message) for message in client.received[seen:] if _is_about_the_account(message)]
            outcomes[step.name] = [(step.method, _outcome(outcome, home)), *messages]
    return Played(outcomes, client.received, client.methods)


_TELLING = {"initialize", "account/login/start", "account/logout"}
_QUIET = 0.3  # seconds


def _owed(step: Step, outcome: Message) -> int:
    """How much authstate tells after this answer."""
    return 0 if "error" in outcome else {"account/login/start": 2, "account/logout": 1}.get(step.method, 0)


def _have_come(client: WireClient, seen: int, count: int) -> bool:
    """Whether so many messages about the account have come since then."""
    return sum(map(_is_about_the_account, client.received[seen:])) >= count


def _is_about_the_account(message: Message) -> bool:
    return str(message.get("method", "")).startswith("account/")


def _told(message: Message) -> tuple[str, Any]:
    return (message["method"], plain(message["params"]))


def _outcome(message: Message, home: Path) -> Any:
    if "error" in message:
        return message["error"]["code"]
    result = plain(message["result"])
    if "userAgent" in result:
        result["userAgent"] = re.sub(r"^([^/]+)/[0-9.]+ \(.*\).*$", r"\1/VERSION (...)", result["userAgent"])
    if "codexHome" in result:
        result["codexHome"] = "HOME" if Path(result["codexHome"]).samefile(home) else result["codexHome"]
    return result


_SECRET = {"authToken": "TOKEN", "loginId": "LOGIN", "authUrl": "URL"}


def plain(value: Any) -> Any:
    """The value without what differs in every run."""
    if isinstance(value, dict):
        return {name: _SECRET.get(name) if name in _SECRET and item else plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
