"""The issuer, which lets every refresh token work once, and the network between it and a process."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

from model.simulation.ledger import Fate, Grant, Ledger
from model.simulation.scheduler import About, Runner, Scheduler

from authstate.adapters.testing.tokens import make_tokens
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import Delivery, IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.secret import Secret
from authstate.engine.ports import PartialRefresh, RefreshedTokens

EPOCH = 1_800_000_000.0
TIMEOUT = 1.0
"""Seconds after which a client gives up. The real one waits 30: here time is scaled, so that histories stay short."""

_Answer = RefreshedTokens | Exception


class Weather(StrEnum):
    """What becomes of a request."""

    FINE = "fine"
    LOST_BEFORE = "lost before the issuer saw it"
    LOST_AFTER = "answer lost after the issuer saw it"
    SILENT = "answer too late"
    LATE = "request delivered after the client gave up"
    BUSY = "issuer overloaded"
    PARTIAL = "answer without an access token"


class Issuer:
    """Knows every refresh token that it ever gave, and what became of it."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger) -> None:
        self.lifetime = 300.0
        """Of new access tokens, in seconds."""
        self._scheduler = scheduler
        self._ledger = ledger
        self._logins = 0

    def sign_in(self, account_id: str) -> ChatgptTokens:
        """The tokens of a new login."""
        self._logins += 1
        return self._issue(self._logins, 0, account_id)

    def settle(self, runner: Runner, token: str, weather: Weather) -> _Answer:
        """A refresh request arrived: spend the token and answer."""
        if weather is Weather.BUSY:
            return IssuerUnavailable("the simulated issuer is busy", retry_after=0.3, delivery=Delivery.NOT_PROCESSED)
        grant = self._ledger.arrived(runner, token, is_late=weather is Weather.LATE)
        if grant is None:
            return PermanentRefreshError(self._ledger.why_dead(token))
        new = self._issue(grant.login, grant.number + 1, grant.account_id)
        grant.spend(runner, new)
        if weather is not Weather.FINE and weather is not Weather.PARTIAL:
            self._ledger.lose(grant, Fate.LOST_BY_NETWORK)
        elif not runner.alive:
            self._ledger.lose(grant, Fate.CRASHED_BEFORE_ANSWER)
        if weather is Weather.PARTIAL:
            return PartialRefresh(new.refresh_token)
        return RefreshedTokens(new.access_token, new.refresh_token, new.id_token)

    def revoke(self, token: str) -> None:
        """Forget a token."""
        self._ledger.revoked(token)

    def _issue(self, login: int, number: int, account_id: str) -> ChatgptTokens:
        name = f"rt-{login}.{number}"
        tokens = _tokens(name, account_id, self.lifetime, EPOCH + self._scheduler.now)
        self._ledger.issued(Grant(name, login, number, account_id, tokens.access_token.reveal()))
        return tokens


@lru_cache(maxsize=4096)
def _tokens(name: str, account_id: str, lifetime: float, now: float) -> ChatgptTokens:
    """Tokens of a grant: the same in each world, so that worlds can be compared."""
    return make_tokens(account_id=account_id, expires_in=lifetime, refresh_token=name, now=now)


class SimAuthority:
    """A process's `TokenAuthority`: what `HttpTokenAuthority` is on a real network.

    Args:
        weather: chooses what becomes of the next request, and how long its way and the way back take, in seconds.
        has_cause: whether somebody in the process needs newer tokens.
        is_usable: whether the access token beside a refresh token is good to use, as far as the process knows.
        note: writes to the timeline.
    """

    def __init__(
        self,
        issuer: Issuer,
        ledger: Ledger,
        scheduler: Scheduler,
        runner: Runner,
        weather: Callable[[], tuple[Weather, float, float]],
        has_cause: Callable[[str], bool],
        is_usable: Callable[[str], bool],
        note: Callable[[str], None],
    ) -> None:
        self._issuer = issuer
        self._ledger = ledger
        self._scheduler = scheduler
        self._runner = runner
        self._weather = weather
        self._has_cause = has_cause
        self._is_usable = is_usable
        self._note = note

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """See `TokenAuthority`."""
        token = refresh_token.reveal()
        self._ledger.sent(self._runner, token, has_cause=self._has_cause(token), is_usable=self._is_usable(token))
        weather, there, back = self._weather()
        request = Request(self, token, weather, back)
        self._note(f"sends {token}" + ("" if weather is Weather.FINE else f" ({weather})"))
        if weather is Weather.LOST_BEFORE:
            request.fails_after(there)
        elif weather in (Weather.SILENT, Weather.LATE):
            request.fails_after(TIMEOUT)
            request.arrives_after(there if weather is Weather.SILENT else TIMEOUT + there)
        else:
            request.arrives_after(there)
        answer = await request.answered
        if isinstance(answer, Exception):
            self._ledger.heard(self._runner, token, answer)
            raise answer
        self._ledger.heard(self._runner, token, None)
        return answer

    async def revoke(self, refresh_token: Secret) -> None:
        """See `TokenAuthority`."""
        token = refresh_token.reveal()
        weather, there, back = self._weather()
        done = self._runner.loop.create_future()
        reaches = weather not in (Weather.LOST_BEFORE, Weather.BUSY)

        def arrive() -> None:
            if reaches:
                self._issuer.revoke(token)

        def end() -> None:
            if self._runner.alive and not done.done():
                done.set_result(None)

        self._scheduler.after(there, arrive)
        self._scheduler.after(there + back, end)
        await done
        if not reaches:
            raise IssuerUnavailable("the simulated revocation did not get through")
        self._note(f"revoked {token}")

    def settle(self, token: str, weather: Weather) -> _Answer:
        """The request is at the issuer."""
        answer = self._issuer.settle(self._runner, token, weather)
        if isinstance(answer, PermanentRefreshError):
            self._note(f"the issuer refuses {token} ({answer.reason})")
        elif isinstance(answer, RefreshedTokens | PartialRefresh):
            new = answer.refresh_token
            self._note(f"the issuer spends {token}, gives {new.reveal() if new else None}")
        return answer

    def deliver(self, request: "Request", answer: _Answer) -> None:
        """The answer is at the process, if there still is one."""
        if self._runner.alive and not request.answered.done():
            request.answered.set_result(answer)

    def after(self, delay: float, happening: Callable[[], None], what: str, *, wakes: bool) -> None:
        """Later, on the network. `wakes`: this process sees it."""
        self._scheduler.after(delay, happening, About(self._runner.name, what, wakes))

    def future(self) -> asyncio.Future[_Answer]:
        """What the process waits for."""
        return self._runner.loop.create_future()


class Request:
    """One refresh request on its way there and back."""

    def __init__(self, authority: SimAuthority, token: str, weather: Weather, back: float) -> None:
        self.answered = authority.future()
        self._authority = authority
        self._token = token
        self._weather = weather
        self._back = back

    def arrives_after(self, delay: float) -> None:
        """It is at the issuer then."""
        self._authority.after(delay, self._arrive, f"{self._token} arrives at the issuer", wakes=False)

    def fails_after(self, delay: float) -> None:
        """The process hears then that the connection is gone, or gives up waiting."""
        self._authority.after(delay, self._fail, f"nothing is heard of {self._token}", wakes=True)

    def _arrive(self) -> None:
        self._answer = self._authority.settle(self._token, self._weather)
        if self._weather in (Weather.FINE, Weather.PARTIAL, Weather.BUSY):
            what = f"the answer to {self._token} arrives: {_content(self._answer)}"
            self._authority.after(self._back, self._give, what, wakes=True)
        elif self._weather is Weather.LOST_AFTER:
            self.fails_after(self._back)

    def _give(self) -> None:
        self._authority.deliver(self, self._answer)

    def _fail(self) -> None:
        lost = IssuerUnavailable("the simulated network gave no answer", delivery=Delivery.UNKNOWN)
        self._authority.deliver(self, lost)


def _content(answer: _Answer) -> str:
    """An answer as a text: two answers of equal texts are equal."""
    if isinstance(answer, RefreshedTokens):
        return " ".join(secret.reveal() for secret in (answer.access_token, answer.refresh_token) if secret)
    return answer.refresh_token.reveal() if isinstance(answer, PartialRefresh) else str(answer)
