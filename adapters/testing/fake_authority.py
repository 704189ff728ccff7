"""An issuer in memory, as strict as the real one: every refresh token works once."""

import asyncio
import time
from collections import deque
from itertools import count

from authstate.adapters.testing.tokens import make_tokens
from authstate.adapters.testing.transcript import Transcript
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TokenRefused,
)
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, PartialRefresh, RefreshedTokens

_authorities = count(1)


class FakeAuthority:
    """A `TokenAuthority` in memory that rotates single-use refresh tokens.

    It refuses a spent refresh token with EXHAUSTED, a revoked or killed one with its reason, and an unknown one with
    UNKNOWN.

    Args:
        logins: tokens whose refresh tokens it knows. `accept` and `issue` add more.
        clock: the time that `exp` of new access tokens counts from; by default the wall clock's.
        expires_in: how long new access tokens last, in seconds. May be changed at any time; None leaves `exp` out.
    """

    def __init__(self, *logins: ChatgptTokens, clock: Clock | None = None, expires_in: float | None = 3600.0) -> None:
        self.clock = clock
        self.expires_in = expires_in
        self.sent: list[str] = []
        """Every refresh token that arrived, refused or not, in order."""
        self.grants: list[RefreshedTokens] = []
        """Every answer that contained tokens, in order."""
        self.revoked: list[str] = []
        """Every refresh token that `revoke` was called with, in order."""
        self.identified: list[str] = []
        """Every token that `identify` was called with, in order."""
        self.owners: dict[str, Account | Exception] = {}
        """What `identify` returns or raises for a personal access token. It refuses every other one."""
        self.access_tokens: set[str] = set()
        """Every access token that it issued or that came with `accept`."""
        self.transcript: Transcript = Transcript()
        """The requests so far, without secrets."""
        self.outage: IssuerUnavailable | None = None
        """While set, every refresh and revocation raises it, and no refresh token is spent."""
        self.delay: float = 0.0
        """How long answers to a refresh take, in seconds of the clock."""
        self.gate: asyncio.Event = asyncio.Event()
        """Answers wait for it. `hold` clears it, `release` sets it."""
        self.gate.set()
        self._live: dict[str, Account] = {}
        self._dead: dict[str, RefreshDeadReason] = {}
        self._errors: deque[Exception] = deque()
        self._partial = 0
        self._lost = 0
        self._revoke_error: Exception | None = None
        self._name = next(_authorities)
        self._arrival = asyncio.Condition()
        for tokens in logins:
            self.accept(tokens)

    @property
    def live(self) -> frozenset[str]:
        """The refresh tokens that work now."""
        return frozenset(self._live)

    def accept(self, tokens: ChatgptTokens) -> ChatgptTokens:
        """Accept the refresh token of these tokens from now on. Returns them."""
        access, refresh = tokens.access_token.reveal(), tokens.refresh_token.reveal()
        self._live[refresh] = tokens.account
        self.access_tokens.add(access)
        self.transcript.name("access", access)
        self.transcript.name("refresh", refresh)
        return tokens

    def now(self) -> float:
        """Return the seconds since the epoch, by its clock."""
        return self.clock.now() if self.clock else time.time()

    def issue(
        self, *, email: str = "person@example.com", account_id: str = "org-1", plan: str = "plus"
    ) -> ChatgptTokens:
        """Return the tokens of a new login."""
        login = {"email": email, "account_id": account_id, "plan": plan}
        return self.accept(make_tokens(**login, expires_in=self.expires_in, now=self.now()))

    def fail_next(self, error: Exception, times: int = 1) -> None:
        """Raise `error` for the next `times` refreshes. The refresh token is not spent."""
        self._errors.extend([error] * times)

    def answer_without_access_token_next(self) -> None:
        """Rotate at the next refresh, but raise PartialRefresh with the new refresh token."""
        self._partial += 1

    def lose_next(self, times: int = 1) -> None:
        """Serve the next `times` refreshes, but raise IssuerUnavailable instead of the answer: the token is spent.

        0 ends this.
        """
        self._lost = times

    def fail_revoke(self, error: Exception | None) -> None:
        """Raise `error` for every revocation from now on; None ends this."""
        self._revoke_error = error

    def kill(self, reason: RefreshDeadReason = RefreshDeadReason.REVOKED) -> None:
        """Refuse every refresh token that is accepted now, with this reason."""
        self._dead |= dict.fromkeys(self._live, reason)
        self._live.clear()

    def issue_dead(self, reason: RefreshDeadReason = RefreshDeadReason.REVOKED) -> ChatgptTokens:
        """Return the tokens of a login whose refresh token is refused with this reason. Its access token is good."""
        tokens = self.issue()
        self._dead[tokens.refresh_token.reveal()] = reason
        del self._live[tokens.refresh_token.reveal()]
        return tokens

    def hold(self) -> None:
        """Hold answers back from now on: the token is spent, but the answer waits for `release`."""
        self.gate.clear()

    def release(self) -> None:
        """Give the answers that were held, and hold no more."""
        self.gate.set()

    async def asked(self, times: int = 1) -> None:
        """Return when that many refreshes have arrived in total."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.sent) >= times)

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """See `TokenAuthority`. The outcome is decided on arrival; only the answer waits for the gate."""
        token = refresh_token.reveal()
        self.sent.append(token)
        outcome = self._settle(token)
        self.transcript.add(f"refresh {self.transcript.name('refresh', token)}", self._shown(outcome))
        async with self._arrival:
            self._arrival.notify_all()
        await self.gate.wait()
        if self.delay > 0:
            await (self.clock.sleep(self.delay) if self.clock else asyncio.sleep(self.delay))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def revoke(self, refresh_token: Secret) -> None:
        """See `TokenAuthority`."""
        token = refresh_token.reveal()
        self.revoked.append(token)
        error = self.outage or self._revoke_error
        self.transcript.add(f"revoke {self.transcript.name('refresh', token)}", "unavailable" if error else "done")
        await self.gate.wait()
        if (error := self.outage or self._revoke_error) is not None:
            raise error
        if self._live.pop(token, None) is not None:
            self._dead[token] = RefreshDeadReason.REVOKED

    async def identify(self, token: Secret) -> Account:
        """See `IdentifiesTokens`."""
        self.identified.append(token.reveal())
        outcome = self.owners.get(token.reveal(), TokenRefused("the issuer does not know it"))
        shown = "refused" if isinstance(outcome, Exception) else "an account"
        self.transcript.add(f"identify {self.transcript.name('key', token.reveal())}", shown)
        await self.gate.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _shown(self, outcome: RefreshedTokens | Exception) -> str:
        """Return how the transcript shows the answer to a refresh."""
        if isinstance(outcome, PermanentRefreshError):
            return f"refused: {outcome.reason}"
        if isinstance(outcome, PartialRefresh):
            return self.transcript.name("refresh", outcome.refresh_token.reveal())
        if isinstance(outcome, Exception):
            is_lost = isinstance(outcome, IssuerUnavailable) and outcome.delivery is Delivery.UNKNOWN
            return "answer lost" if is_lost else "unavailable"
        assert outcome.refresh_token is not None
        access, refresh = outcome.access_token.reveal(), outcome.refresh_token.reveal()
        return f"{self.transcript.name('access', access)} {self.transcript.name('refresh', refresh)}"

    def _settle(self, token: str) -> RefreshedTokens | Exception:
        if self.outage is not None:
            return self.outage
        if self._errors:
            return self._errors.popleft()
        outcome = self._serve(token)
        if self._lost:
            self._lost -= 1
            return IssuerUnavailable("the answer of the issuer was lost", delivery=Delivery.UNKNOWN)
        return outcome

    def _serve(self, token: str) -> RefreshedTokens | Exception:
        account = self._live.pop(token, None)
        if account is None:
            return PermanentRefreshError(self._dead.get(token, RefreshDeadReason.UNKNOWN))
        self._dead[token] = RefreshDeadReason.EXHAUSTED
        granted = self._grant(account)
        assert granted.refresh_token is not None
        self._live[granted.refresh_token.reveal()] = account
        if self._partial:
            self._partial -= 1
            return PartialRefresh(granted.refresh_token)
        self.grants.append(granted)
        self.access_tokens.add(granted.access_token.reveal())
        return granted

    def _grant(self, account: Account) -> RefreshedTokens:
        name = f"rt-fake-{self._name}-{len(self.sent)}"
        tokens = make_tokens(
            email=account.email,
            account_id=account.account_id,
            user_id=account.user_id,
            plan=str(account.plan_type),
            expires_in=self.expires_in,
            refresh_token=name,
            now=self.now(),
        )
        return RefreshedTokens(
            access_token=tokens.access_token, refresh_token=tokens.refresh_token, id_token=tokens.id_token
        )
