"""A broker, its vault and its clients, compared with a small reference model.

The model knows who is signed in to which account, which leases yield tokens, and which access tokens have expired. It
says for each client whether it gets a token. Clients behave as codex does (measured): 0.93.0 writes an answer over
whatever stands in auth.json, 0.169.0 drops it if the file has changed since it was read, and reads the file first.
"""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from support.broker_world import BrokerWorld

from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.token_grants import Grant, PresentedToken
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import LeaseRequest
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import AuthError, Delivery, IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.jwt_claims import expiry_of, read_jwt_claims
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens
from authstate.testing import FakeAuthority

T = TypeVar("T")
PEOPLE = ("org-1", "org-2", "org-3")
LIFETIMES = (None, 60.0, 3000.0, 100_000.0)
STEPS_OF_TIME = (1.0, 31.0, 400.0, 3400.0, 3700.0)
KEY = ApiKey.parse("sk-1")


class StrictAuthority(FakeAuthority):
    """Notices a refresh token that comes again after it was spent."""

    spent_twice = 0

    def _settle(self, token: str) -> RefreshedTokens | Exception:
        self.spent_twice += self._dead.get(token) is RefreshDeadReason.EXHAUSTED
        return super()._settle(token)


@dataclass
class Home:
    """The auth.json of clients: what stands there."""

    presents: Secret
    access: str


@dataclass
class Client:
    """A codex process."""

    home: Home
    release: str
    person: str
    account: str
    lease: str
    loaded: tuple[Secret, str] = field(init=False)

    def __post_init__(self) -> None:
        self.reads()

    def reads(self) -> None:
        self.loaded = (self.home.presents, self.home.access)

    def writes(self, grant: Grant) -> None:
        """Store an answer as this release does."""
        if self.release == "0.169" and self.loaded != (self.home.presents, self.home.access):
            return  # it drops the answer
        self.home.access = grant.access_token
        if grant.refresh_token is not None:
            self.home.presents = Secret(grant.refresh_token)
        self.reads()


@dataclass
class Lease:
    """What the model knows of a lease."""

    account: str
    person: str
    ends_at: float = math.inf
    ends_at_monotonic: float = math.inf
    is_over: bool = False


class BrokerModel:
    """The world and the model. Each method is one step; it checks what it sees.

    Args:
        folder: for the files of the vault.
        random: decides what a step acts on.
    """

    def __init__(self, folder: Path, random: Random) -> None:
        self.random = random
        self._loop = asyncio.new_event_loop()
        self.world = BrokerWorld(folder)
        self.issuer = StrictAuthority(clock=self.world.clock)
        self.world.authority = self.issuer
        self.world.broker = self.world.another_broker(self.world.vault)
        self.brokers = [self.world.broker, self.world.another_broker()]
        self.accounts = ["home", self.world.vault.add("work").id, self.world.vault.add("side").id]
        self.person: dict[str, str | None] = dict.fromkeys(self.accounts)
        self.is_dead: dict[str, bool] = dict.fromkeys(self.accounts, False)
        self.selected = "home"
        self.leases: dict[str, Lease] = {}
        self.clients: list[Client] = []
        self.old_logins: list[tuple[str, Secret]] = []
        """Refresh tokens that once stood in a home, and whose they were."""
        self.outage = 0
        self.counts: dict[str, int] = {}
        self.window = AuthEngine(VaultStore(self.world.vault), self.issuer, clock=self.world.clock)
        self.run(self.window.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something, and let time pass as long as it takes."""
        try:
            return self._loop.run_until_complete(self.world.finished(work))
        finally:
            self.observe()

    def wait(self, seconds: float) -> None:
        """Let time pass for all processes."""
        self._loop.run_until_complete(self.world.clock.elapse(seconds))
        self.observe()

    def observe(self) -> None:
        """Look at the leases: one that was seen to be over stays over, whatever the wall clock does later."""
        self.world.leases.leases()
        wall, monotonic = self.world.clock.now(), self.world.clock.monotonic()
        for lease in self.leases.values():
            lease.is_over = lease.is_over or wall >= lease.ends_at or monotonic >= lease.ends_at_monotonic

    def close(self) -> None:
        """End the processes."""
        for broker in self.brokers:
            self.run(broker.close())
        self.run(self.window.close())
        self._loop.close()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def check(self) -> None:
        """What must be so after every step."""
        assert self.issuer.spent_twice == 0, "a refresh token was spent twice"

    # Steps of people

    def select(self) -> None:
        """Select an account. The window follows, and shows who is signed in there."""
        self.selected = self.random.choice(self.accounts)
        self.world.vault.select(self.selected)
        self.count("switches")
        self.follow()
        account = self.window.session.account
        assert (account.account_id if account is not None else None) == self.person[self.selected]

    def follow(self) -> None:
        """Let the window follow, once its refresh is done."""
        self.wait(60.0)
        self.run(self.window.follow(adopt=True))

    def sign_in(self) -> None:
        """Sign in to an account: in another process, or in the window."""
        account = self.random.choice(self.accounts)
        person = self.random.choice((*PEOPLE, *[self.person[account] or PEOPLE[0]] * 3))
        tokens = self.issuer.issue(account_id=person, email=f"{person}@example.com")
        self.follow()
        if account == self.selected and self.random.random() < 0.5:
            self.run(self.window.complete_chatgpt_login(tokens))
        else:
            self.run(self.world.store(account, tokens))
        self.person[account], self.is_dead[account] = person, False
        self.count("sign-ins")

    def sign_out(self) -> None:
        """Sign out of an account, or store a key there."""
        account = self.random.choice(self.accounts)
        self.run(self.world.store(account, self.random.choice((None, None, KEY))))
        self.person[account], self.is_dead[account] = None, False
        self.count("sign-outs")

    def make_lease(self) -> None:
        """Make a lease on whoever is signed in, for one or two clients that share a home."""
        account = self.random.choice(self.accounts)
        person = self.person[account]
        if person is None:
            return
        tokens = self.run(self.world.stored(account))
        ttl = self.random.choice(LIFETIMES)
        lease, handle = self.world.leases.make(LeaseRequest(account, tokens.account, ttl))
        known = self.leases[lease.id] = Lease(account, person)
        if ttl is not None:
            known.ends_at, known.ends_at_monotonic = self.world.clock.now() + ttl, self.world.clock.monotonic() + ttl
        stands = leased(tokens, handle.text().reveal())
        home = Home(stands.refresh_token, stands.access_token.reveal())
        for release in self.random.choice((("0.93",), ("0.169",), ("0.93", "0.169"), ("0.169", "0.169"))):
            self.clients.append(Client(home, release, person, account, lease.id))
        self.clients = self.clients[-12:]
        self.count("leases")

    def end_lease(self) -> None:
        """End a lease: by its owner, or because codex signs out."""
        if not self.clients:
            return
        client = self.random.choice(self.clients)
        if self.random.random() < 0.5:
            self.world.leases.end(client.lease)
        else:
            self.run(self.random.choice(self.brokers).grants.revoke(client.home.presents))
        self.leases[client.lease].is_over = True
        self.count("ended leases")
        self.ask(client)

    # Steps of the world

    def pass_time(self) -> None:
        """Let time pass; the wall clock may also jump."""
        self.wait(self.random.choice(STEPS_OF_TIME))
        if self.random.random() < 0.1:
            self.observe()
            self.world.clock.jump_wall(-self.random.choice(STEPS_OF_TIME))
        self.observe()

    def fail(self) -> None:
        """Let the issuer be unavailable for some requests."""
        delivery = self.random.choice((Delivery.REFUSED, Delivery.NOT_SENT, Delivery.NOT_PROCESSED))
        self.issuer.fail_next(IssuerUnavailable("the test's outage", delivery=delivery), self.random.choice((1, 5)))
        self.count("outages")

    def revoke_all(self) -> None:
        """Let the issuer revoke every login."""
        self.issuer.kill(self.random.choice((RefreshDeadReason.REVOKED, RefreshDeadReason.EXPIRED)))
        self.is_dead = {account: person is not None for account, person in self.person.items()}
        self.count("revocations at the issuer")

    # Steps of clients

    def ask_one(self) -> None:
        working = [client for client in self.clients if self._works(client)]
        among = working if working and self.random.random() < 0.7 else self.clients
        if among:
            self.ask(self.random.choice(among))

    def ask(self, client: Client) -> None:
        """Let a client ask, because its access token is old or was refused."""
        self.run(self._ask(client))

    async def _ask(self, client: Client) -> None:
        if client.release == "0.169":
            client.reads()
        is_refused = self.random.random() < 0.3
        presented = PresentedToken(client.loaded[0], access_was_refused=is_refused)
        was_over = self.leases[client.lease].is_over
        before = client.loaded[1]
        try:
            grant = await self.random.choice(self.brokers).grants.refresh(presented)
        except OAuthRefusal as refusal:
            self._check_refusal(client, refusal)
            return
        assert not was_over, "a lease that was over yielded a token"
        assert self.person[client.account] == client.person, "a token of an account that somebody else signed in to"
        self._check_grant(grant, client.person, client.account)
        if is_refused:
            assert grant.access_token != before, "the access token that the backend refused"
        client.writes(grant)
        self.count("tokens for leases")

    def _check_grant(self, grant: Grant, person: str, account: str) -> None:
        claims = read_jwt_claims(grant.access_token, "access token")
        assert claims["https://api.openai.com/auth"]["chatgpt_account_id"] == person, "a token of somebody else"
        assert grant.account == account
        expires = expiry_of(grant.access_token)
        assert expires is not None
        assert grant.refresh_token is None or grant.refresh_token.startswith("authstate_lease_")

    def _check_refusal(self, client: Client, refusal: OAuthRefusal) -> None:
        lease = self.leases[client.lease]
        if lease.is_over or self.person[client.account] != client.person:
            assert refusal.error in (OAuthError.INVALID_GRANT, OAuthError.SLOW_DOWN), refusal.description
            self.count("refused for good")
        elif refusal.error is OAuthError.INVALID_GRANT:
            assert self.is_dead[client.account], refusal.description
            self.count("refused: dead")
        else:
            self.count(f"refused: {refusal.error}")

    def ask_all(self) -> None:
        """Let the access tokens expire, and every client ask: one refresh for each account that can."""
        self.issuer._errors.clear()
        self.wait(3700.0)
        working = [client for client in self.clients if self._works(client)]
        expired = {
            client.account
            for client in working
            if (self.run(self.world.stored(client.account)).expires_at or 0.0) <= self.world.clock.now()
        }
        sent = len(self.issuer.sent)

        async def ask_in_turn_or_at_once() -> None:
            if self.random.random() < 0.5:
                await asyncio.gather(*(self._ask_proactively(client) for client in working * 2))
            else:
                for client in working:
                    await self._ask_proactively(client)

        self.run(ask_in_turn_or_at_once())
        accounts = {client.account for client in working}  # a wall clock that was set back makes tokens last longer
        refreshes = self.issuer.sent[sent:]
        assert len(expired) <= len(refreshes) <= len(accounts), "not one refresh for each expiry"
        self.counts["expiries"] = self.counts.get("expiries", 0) + len(expired)

    def _works(self, client: Client) -> bool:
        is_signed_in = self.person[client.account] == client.person and not self.is_dead[client.account]
        return is_signed_in and not self.leases[client.lease].is_over

    async def _ask_proactively(self, client: Client) -> None:
        presented = PresentedToken(client.loaded[0], access_was_refused=False)
        grant = await self.random.choice(self.brokers).grants.refresh(presented)
        self._check_grant(grant, client.person, client.account)
        assert (grant.expires_at or 0.0) > self.world.clock.now()
        client.writes(grant)

    def note_login(self) -> None:
        """Remember a refresh token that stands in an account, as a child of a home that was not adopted does."""
        account = self.random.choice(self.accounts)
        person = self.person[account]
        if person is not None:
            tokens = self.run(self.world.stored(account))
            self.old_logins = [*self.old_logins[-20:], (person, tokens.refresh_token)]

    def ask_with_login(self) -> None:
        """Let such a child ask. It gets a token of who it was, or nothing."""
        if not self.old_logins:
            return
        person, presented = self.random.choice(self.old_logins)
        token = PresentedToken(presented, access_was_refused=self.random.random() < 0.3)
        try:
            grant = self.run(self.random.choice(self.brokers).grants.refresh(token))
        except OAuthRefusal:
            self.count("refused with a login")
            return
        assert person == self.person[grant.account], "a token of an account that somebody else signed in to"
        self._check_grant(grant, person, grant.account)
        assert grant.refresh_token is None
        self.count("tokens for logins")

    def use_window(self) -> None:
        """Let the window send a request, and recover from a refusal."""
        self.follow()
        session = self.window.session
        if not isinstance(session.credentials, ChatgptTokens):
            return
        try:
            authorization = self.run(self.window.authorization())
            assert authorization.account_id == self.person[self.selected]
            if self.random.random() < 0.3:
                self.run(self.window.recover(authorization))
        except AuthError:
            self.count("refused in the window")


STEPS = {
    BrokerModel.select: 8.0,
    BrokerModel.sign_in: 2.0,
    BrokerModel.sign_out: 0.5,
    BrokerModel.make_lease: 4.0,
    BrokerModel.end_lease: 1.0,
    BrokerModel.pass_time: 3.0,
    BrokerModel.fail: 1.0,
    BrokerModel.revoke_all: 0.2,
    BrokerModel.ask_one: 12.0,
    BrokerModel.ask_all: 1.0,
    BrokerModel.note_login: 2.0,
    BrokerModel.ask_with_login: 5.0,
    BrokerModel.use_window: 3.0,
}
"""Every step, and how often it is taken in a long random run."""
