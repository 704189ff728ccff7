"""The control API of a sandbox: JSON over HTTP below `/sandbox`. docs/sandbox.md describes it."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from authstate.adapters.sandbox.faults import FaultOrder
from authstate.adapters.sandbox.issued_tokens import TokenKind
from authstate.adapters.sandbox.pointing import Pointing
from authstate.adapters.sandbox.sign_in import RedirectUnreachable, follow_redirect, parameters_of
from authstate.adapters.sandbox.state import NoSuchThing, SandboxAccount, SandboxState
from authstate.adapters.testing.loopback_issuer_state import REDIRECT

LARGEST_BODY: Final = 64 * 1024  # bytes

Json = dict[str, Any]
T = TypeVar("T")

_COUNTS: Final = {
    "refreshes": "refreshes_accepted",
    "refreshesRefused": "refreshes_refused",
    "refreshesFailed": "refreshes_failed",
    "refreshTokensUsedTwice": "refresh_tokens_used_twice",
    "exchanges": "exchanges",
    "revocations": "revocations",
    "backendAccepted": "backend_accepted",
    "backendRefused": "backend_refused",
}

_Seconds = Annotated[float, Meta(ge=-31_536_000, le=31_536_000)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A body without members."""


class _Chosen(_Body, frozen=True):
    """An account or a login; without both, all of them."""

    account: str | None = None
    login: str | None = None


class _Person(_Body, frozen=True):
    account: str


class _Lifetime(_Body, frozen=True):
    seconds: _Seconds


class _NewLogin(_Body, frozen=True):
    account: str | None = None
    kind: Literal["chatgpt", "personalAccessToken", "apiKey"] = "chatgpt"
    expires_in: _Seconds | None = None


class _SignIn(_Body, frozen=True):
    auth_url: str
    account: str | None = None
    answer: Literal["agree", "decline"] = "agree"


class _Device(_Body, frozen=True):
    user_code: str | None = None
    account: str | None = None


class _Look(_Body, frozen=True):
    after: int = 0
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0


class ControlError(Exception):
    """A request is refused. `status` and `code` are those of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Control:
    """Answers the requests of the control API.

    Args:
        state: of the sandbox. It is locked here.
        pointing: what points a program at the sandbox.
    """

    def __init__(self, state: SandboxState, pointing: Pointing) -> None:
        self._state = state
        self._pointing = pointing
        self._routes: dict[str, dict[str, Callable[[bytes, str], Json]]] = {
            "environment": {"GET": lambda body, query: pointing.as_json()},
            "state": {"GET": self._show_state},
            "accounts": {"GET": self._list_accounts, "POST": self._add_account},
            "person": {"POST": self._choose_person},
            "logins": {"GET": self._list_logins, "POST": self._new_login},
            "tokens": {"GET": self._list_tokens},
            "requests": {"GET": self._list_requests},
            "faults": {"GET": self._list_faults, "POST": self._order_fault, "DELETE": self._clear_faults},
            "release": {"POST": self._release},
            "lifetime": {"POST": self._set_lifetime},
            "expire": {"POST": self._expire},
            "revoke": {"POST": self._revoke},
            "sign-in": {"POST": self._sign_in},
            "device": {"POST": self._approve_device},
            "reset": {"POST": self._reset},
        }

    def answer(self, method: str, path: str, query: str, body: bytes) -> Json:
        """Do what a request asks for, and return the answer.

        Args:
            method: of the request.
            path: below `/sandbox/`.
            query: without the question mark.
            body: JSON, or empty.

        Raises:
            ControlError: it is refused.
        """
        methods = self._routes.get(path)
        if methods is None:
            raise ControlError(404, "not_found", f"there is no /sandbox/{path[:50]}: see docs/sandbox.md")
        if method not in methods:
            raise ControlError(405, "method_not_allowed", f"/sandbox/{path} takes {' and '.join(methods)}")
        if len(body) > LARGEST_BODY:
            raise ControlError(413, "invalid_request", f"the body may have at most {LARGEST_BODY} bytes")
        try:
            return methods[method](body, query)
        except msgspec.ValidationError as error:
            raise ControlError(400, "invalid_request", str(error)) from None
        except msgspec.DecodeError:
            raise ControlError(400, "invalid_request", "the body is not valid JSON") from None
        except NoSuchThing as error:
            raise ControlError(404, "not_found", str(error)) from None

    # What it shows

    def _show_state(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            counts = {name: self._state.counts[ours] for name, ours in _COUNTS.items()}
            shown = {"person": self._state.person["name"], "lifetime": self._state.lifetime, "counts": counts}
            return {"url": self._pointing.url, "revision": self._state.seen.revision, **shown}

    def _list_accounts(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            return {"accounts": _plain(list(self._state.accounts.values()))}

    def _list_logins(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            working = self._state.working_logins()
            logins = self._state.issued.logins.values()
            return {"logins": [{**_plain(login), "works": login.id in working} for login in logins]}

    def _list_tokens(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            states = dict(self._state.token_states())
            views = {token: self._state.issued.view(token) for token in states}
            return {"tokens": [{**_plain(views[token]), "state": state} for token, state in states.items()]}

    def _list_requests(self, body: bytes, query: str) -> Json:
        look = msgspec.convert(dict(parse_qsl(query)), _Look, strict=False)
        with self._state.lock:
            seen = self._state.seen
            if look.wait:
                seen.wait(look.after, look.wait)
            requests = _plain(list(seen.since(look.after)))
            return {"revision": seen.revision, "oldest": seen.oldest, "requests": requests}

    def _list_faults(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            return {"faults": [_shown_order(one) for one in self._state.faults.listed()]}

    # What it changes

    def _add_account(self, body: bytes, query: str) -> Json:
        account = _read(body, SandboxAccount)
        with self._state.lock:
            self._state.add_account(account)
        return {"account": _plain(account)}

    def _choose_person(self, body: bytes, query: str) -> Json:
        wanted = _read(body, _Person)
        with self._state.lock:
            self._state.choose(wanted.account)
        return {"person": wanted.account}

    def _new_login(self, body: bytes, query: str) -> Json:
        wanted = _read(body, _NewLogin)
        kind = TokenKind.REFRESH if wanted.kind == "chatgpt" else TokenKind(wanted.kind)
        with self._state.lock:
            auth_json = self._state.hand_out(self._state.account(wanted.account), kind, wanted.expires_in)
            return {"login": list(self._state.issued.logins)[-1], "authJson": auth_json}

    def _order_fault(self, body: bytes, query: str) -> Json:
        order = _read(body, FaultOrder)
        with self._state.lock:
            return {"fault": _shown_order(self._state.order(order))}

    def _clear_faults(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            self._state.clear_faults()
        return {"faults": []}

    def _release(self, body: bytes, query: str) -> Json:
        with self._state.lock:
            self._state.release()
            return {"faults": [_shown_order(one) for one in self._state.faults.listed()]}

    def _set_lifetime(self, body: bytes, query: str) -> Json:
        seconds = _read(body, _Lifetime).seconds
        with self._state.lock:
            self._state.lifetime = seconds
            self._state.seen.note_change()
        return {"lifetime": seconds}

    def _expire(self, body: bytes, query: str) -> Json:
        chosen = _read(body, _Chosen)
        with self._state.lock:
            return {"accessTokens": self._state.expire(chosen.account, chosen.login)}

    def _revoke(self, body: bytes, query: str) -> Json:
        chosen = _read(body, _Chosen)
        with self._state.lock:
            return {"logins": self._state.revoke(chosen.account, chosen.login)}

    def _sign_in(self, body: bytes, query: str) -> Json:
        """Do what a person and a browser do. The lock is not held while the redirect is followed."""
        wanted = _read(body, _SignIn)
        parameters = parameters_of(wanted.auth_url)
        with self._state.lock:
            account = self._state.account(wanted.account)
            status, fault = self._state.authorize(parameters)
            if status != 200:
                message = f"authUrl is no valid sign-in: {fault['error']['code']}"
                raise ControlError(400, "invalid_request", message)
            form = {**parameters, "answer": wanted.answer, "person": account.name}
            _, answer = self._state.consent(form)
        try:
            reached = follow_redirect(answer[REDIRECT])
        except RedirectUnreachable as error:
            raise ControlError(502, "redirect_unreachable", str(error)) from None
        return {"account": account.name, "pageStatus": reached}

    def _approve_device(self, body: bytes, query: str) -> Json:
        wanted = _read(body, _Device)
        with self._state.lock:
            account = self._state.approve_device(wanted.user_code, wanted.account)
        return {"account": account.name}

    def _reset(self, body: bytes, query: str) -> Json:
        _read(body, _Body)
        with self._state.lock:
            self._state.reset()
        return {}


def _read(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body or b"{}", type=kind)


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value)


def _shown_order(one: object) -> Json:
    """Return an open order as one object, without the members that it does not have."""
    shown: Json = _plain(one)
    order = {name: value for name, value in shown.pop("order").items() if value is not None}
    return {"id": shown["id"], **order, "timesLeft": shown["timesLeft"]}
