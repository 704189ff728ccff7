"""What a sandbox knows beyond the loopback issuer: its accounts, their logins, each token it issued, and its faults."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta

from authstate.adapters.sandbox import device_page
from authstate.adapters.sandbox.faults import Endpoint, Fault, FaultOrder, FaultOrders, OpenOrder
from authstate.adapters.sandbox.issued_tokens import IssuedTokens, TokenKind
from authstate.adapters.sandbox.seen_requests import SeenRequests
from authstate.adapters.testing import consent_page
from authstate.adapters.testing.auth_json import api_key_auth_json, chatgpt_auth_json
from authstate.adapters.testing.loopback_issuer_state import PAGE, Answer, IssuerState, Json

LIFETIME: Final = 3600.0
"""Seconds that an access token lasts, unless the sandbox is told otherwise."""

DEFAULT_NAMES: Final = ("ada", "bob")

_CODEX_MODELS: Final = "/backend-api/codex/models"
_REUSED: Final = "refresh_token_reused"
_REVOKED: Final = "refresh_token_invalidated"

Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S+$")]


class SandboxAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Somebody who can sign in. What is left out is derived from the name."""

    name: Text
    email: Text = ""
    plan: Text = "plus"
    workspace_id: Text = ""
    user_id: Text = ""

    def __post_init__(self) -> None:
        """Derive what was left out."""
        short = self.name.partition("@")[0]
        defaults = {"email": self.name if "@" in self.name else f"{self.name}@example.com"}
        defaults |= {"workspace_id": f"org-{short}", "user_id": f"user-{short}"}
        for member, value in defaults.items():
            if not getattr(self, member):
                msgspec.structs.force_setattr(self, member, value)

    def as_login(self) -> Json:
        """Return the account as the loopback issuer has it in a login."""
        login = {"email": self.email, "plan": self.plan, "account_id": self.workspace_id, "user_id": self.user_id}
        return {**login, "name": self.name}


class NoSuchThing(Exception):
    """The sandbox does not know what a request names. The message says what it knows."""


class SandboxState(IssuerState):
    """The state of a sandbox. Every method is called with the lock held.

    Args:
        accounts: who can sign in. The first one is offered first.
    """

    def __init__(self, accounts: Sequence[SandboxAccount] = ()) -> None:
        super().__init__()
        self._first_accounts = tuple(accounts) or tuple(map(SandboxAccount, DEFAULT_NAMES))
        self.seen: SeenRequests = SeenRequests(self.lock)
        self.faults: FaultOrders = FaultOrders()
        self.issued: IssuedTokens = IssuedTokens()
        with self.lock:
            self._begin()

    def _begin(self) -> None:
        self.accounts: dict[Text, SandboxAccount] = {account.name: account for account in self._first_accounts}
        self.lifetime = LIFETIME
        self.choose(self._first_accounts[0].name)

    # Accounts

    def account(self, name: str | None) -> SandboxAccount:
        """Return the account of a name; without a name, the one that signs in next.

        Raises:
            NoSuchThing: there is no such account.
        """
        wanted = self.person["name"] if name is None else name
        if wanted not in self.accounts:
            raise NoSuchThing(f"there is no account {wanted!r}: use one of {', '.join(self.accounts)}, or add it")
        return self.accounts[wanted]

    def choose(self, name: str) -> None:
        """Offer this account first on the sign-in page from now on. Raises NoSuchThing."""
        self.person = self.account(name).as_login()
        self.seen.note_change()

    def add_account(self, account: SandboxAccount) -> None:
        """Add an account, or replace the one of its name. Logins that exist keep what they have."""
        self.accounts[account.name] = account
        if self.person["name"] == account.name:
            self.person: Json = account.as_login()
        self.seen.note_change()

    # Sign-in

    def authorize(self, asked: Json) -> Answer:
        """Show the sign-in page, on which a person chooses an account."""
        fault = consent_page.fault(asked)
        if fault:
            return super().authorize(asked)
        return 200, {PAGE: consent_page.page_with_choice(asked, self.person["name"], self._people())}

    def person_of(self, form: Json) -> Json:
        """Return who was chosen on the page."""
        chosen = self.accounts.get(str(form.get("person")))
        return self.person if chosen is None else chosen.as_login()

    def device_page(self) -> Answer:
        """Show the page on which a person enters the code of a device."""
        return 200, {PAGE: device_page.page(self.person["name"], self._people())}

    def answer_device(self, form: Json) -> Answer:
        """Approve a device on that page."""
        try:
            self.approve_device(str(form.get("user_code", "")).strip().upper(), self.person_of(form)["name"])
        except NoSuchThing:
            return 404, {PAGE: device_page.outcome("This code is not known", "Look at the code again, and go back.")}
        return 200, {PAGE: device_page.outcome("You are signed in", "Go back to the application.")}

    def approve_device(self, user_code: str | None, name: str | None) -> SandboxAccount:
        """Sign an account in on the device that shows this code; without a code, on the one that asked last.

        Raises:
            NoSuchThing: there is no such account or device.
        """
        account = self.account(name)
        for device in reversed(self.devices.values()):
            if user_code in (None, device["user_code"]):
                device["login"] = account.as_login()
                self.seen.note_change()
                return account
        raise NoSuchThing("no device shows this code: start the device sign-in first")

    def _people(self) -> dict[str, str]:
        return {name: account.email for name, account in self.accounts.items()}

    # Tokens

    def issue(self, login: Json, expires_in: float | None) -> Json:
        """Issue tokens that last as long as the sandbox was told. See `IssuerState.issue`."""
        return self._issue(login, self.lifetime)

    def _issue(self, login: Json, expires_in: float) -> Json:
        if "login" not in login:
            login = {**login, "login": self.issued.new_login(login["name"])}
        tokens = super().issue(login, expires_in)
        self.issued.add(tokens["access_token"], TokenKind.ACCESS, login, time.time() + expires_in)
        self.issued.add(tokens["refresh_token"], TokenKind.REFRESH, login, None)
        return tokens

    def hand_out(self, account: SandboxAccount, kind: TokenKind, expires_in: float | None) -> Json:
        """Sign an account in without a page, and return the content of its auth.json.

        Args:
            account: who signs in.
            kind: of the login. REFRESH stands for a ChatGPT login with all its tokens.
            expires_in: seconds until the access token expires; negative if it has expired. By default as all others.
        """
        login = account.as_login()
        self.seen.note_change()
        if kind is TokenKind.REFRESH:
            tokens = self._issue(login, self.lifetime if expires_in is None else expires_in)
            return chatgpt_auth_json({**tokens, "account_id": account.workspace_id})
        login["login"] = self.issued.new_login(account.name)
        is_personal = kind is TokenKind.PERSONAL
        token = ("at-sandbox-" if is_personal else "sk-sandbox-") + secrets.token_urlsafe(24)
        self.access[token] = {**login, "exp": None, **({"is_personal": True} if is_personal else {})}
        self.issued.add(token, kind, login, None)
        return {"personal_access_token": token} if is_personal else api_key_auth_json(token)

    def refresh(self, body: Json) -> Answer:
        """Answer a refresh, and count a token that was spent before. See `IssuerState.refresh`."""
        token = str(body.get("refresh_token"))
        if self.dead.get(token) == _REUSED:
            self.counts["refresh_tokens_used_twice"] += 1
            issued, order = self.issued.view(token), self.faults.take_for_reuse()
            if order is not None and issued is not None:
                self.seen.note_fault_of(issued.fingerprint, order.fault)
                self.revoke(None, issued.login)
        return super().refresh(body)

    def backend(self, path: str, method: str, bearer: str, account: str | None, size: int) -> Answer:
        """Answer for the backend. There are no models to list: codex then uses those that it knows."""
        status, answer = super().backend(path, method, bearer, account, size)
        return (status, {"models": []}) if status == 200 and path == _CODEX_MODELS else (status, answer)

    def expire(self, name: str | None, login: str | None) -> int:
        """Refuse the access tokens of an account or a login, or all, from now on. Returns how many worked until now.

        Personal access tokens and API keys do not expire. Raises NoSuchThing.
        """
        chosen = self._chooser(name, login)
        ended = [token for token, of in self.access.items() if chosen(of) and of["exp"] is not None]
        now = time.time()
        worked = [token for token in ended if self.access.pop(token)["exp"] > now]
        self.seen.note_change()
        return len(worked)

    def revoke(self, name: str | None, login: str | None) -> int:
        """Sign out an account or a login, or everybody: refuse all their tokens. Returns how many logins worked.

        Raises:
            NoSuchThing: there is no such account or login.
        """
        chosen = self._chooser(name, login)
        spent = [token for token, of in self.logins.items() if chosen(of)]
        ended = {self.logins.pop(token)["login"] for token in spent}
        self.dead.update(dict.fromkeys(spent, _REVOKED))
        for token in [token for token, of in self.access.items() if chosen(of)]:
            of = self.access.pop(token)
            ended |= {of["login"]} if of["exp"] is None else set()
            self.issued.note_revoked(token)
        self.seen.note_change()
        return len(ended)

    def _chooser(self, name: str | None, login: str | None) -> Callable[[Json], bool]:
        """Return what says whether a login is meant."""
        if name is not None:
            self.account(name)
        if login is not None and login not in self.issued.logins:
            raise NoSuchThing(f"there is no login {login!r}: see GET /sandbox/logins")
        return lambda of: name in (None, of["name"]) and login in (None, of["login"])

    def owner(self, token: str, body: Json) -> str | None:
        """Return the name of the account whose token or code a request carries. None if that is not known."""
        issued = self.issued.view(token)
        if issued is not None:
            return issued.account
        grant = self.codes.get(str(body.get("code", "")))
        return None if grant is None else grant["name"]

    def working_logins(self) -> set[str]:
        """The ids of the logins whose refresh token, personal access token or API key is accepted."""
        static = (of["login"] for of in self.access.values() if of["exp"] is None)
        return {*(of["login"] for of in self.logins.values()), *static}

    def token_states(self) -> Iterator[tuple[str, str]]:
        """Every token that was issued, and `valid`, `expired`, `spent` or `revoked`."""
        now = time.time()
        for token in self.issued.tokens():
            if token in self.logins:
                yield token, "valid"
            elif token in self.access:
                expiry = self.access[token]["exp"]
                yield token, "valid" if expiry is None or expiry > now else "expired"
            elif token in self.dead:
                yield token, "spent" if self.dead[token] == _REUSED else "revoked"
            else:
                yield token, "revoked" if self.issued.is_revoked(token) else "expired"

    # Faults

    def behaviour(self, endpoint: str) -> Json:
        """Return how the endpoint answers this request. See `IssuerState.behaviour`."""
        order = self.faults.take(endpoint) if endpoint != "other" else None
        if order is None:
            return {"mode": "normal"}
        self.seen.note_fault(order.fault)
        return order.behaviour(endpoint)

    def order(self, order: FaultOrder) -> OpenOrder:
        """Order a fault. Returns the open order."""
        added = self.faults.add(order)
        self.seen.note_change()
        return added

    def release(self) -> None:
        """Let all requests go on that are held, and hold no more."""
        self.faults.clear(only=Fault.HOLD)
        for endpoint in get_args(Endpoint):
            self.releases[endpoint] += 1
        self._was_released.notify_all()
        self.seen.note_change()

    def clear_faults(self) -> None:
        """Serve all requests from now on, also those that are held."""
        self.faults.clear()
        self.release()

    def reset(self) -> None:
        """Begin anew: no login, no fault, no request seen, and the accounts of the start."""
        self.clear_faults()
        for known in (self.logins, self.dead, self.access, self.codes, self.devices, self.counts, self.requests):
            known.clear()
        for told in (self.sent, self.accepted_at, self.model_served):
            told.clear()
        self.faults = FaultOrders()
        self.issued.clear()
        self.seen.clear()
        self._begin()
