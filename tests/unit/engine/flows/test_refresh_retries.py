"""One refresh token on its way to the issuer, against a model: which requests follow, when, and what the error says."""

import asyncio
from random import Random
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from authstate import Delivery, IssuerUnavailable, RefreshedTokens, RefreshInDoubt, RefreshSettings, Secret
from authstate.engine.flows.refresh_retries import RefreshProgress, RefreshRequest
from authstate.testing import ManualClock

SETTINGS = RefreshSettings()
TOKENS = RefreshedTokens(Secret("access"))
HALF = 0.75  # of the jitter of `Half`: half of the wait is certain


class Half(Random):
    def random(self) -> float:
        return 0.5


class Answer(NamedTuple):
    """What becomes of one request. Without a delivery, the issuer answers with tokens."""

    delivery: Delivery | None = None
    retry_after: float | None = None
    stops: bool = False
    """Somebody who waits for the end asks the refresh to stop meanwhile."""


class Outcome(NamedTuple):
    """How a refresh token was sent."""

    sent: int
    waits: tuple[float, ...]
    end: str


class SelfMovingClock(ManualClock):
    """Every sleep is over at once, and the time has passed."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


def expected(answers: list[Answer]) -> Outcome:
    """The table of `refresh_retries`: a lost request is repeated once, at once; what was not processed, for 30 s."""
    waits: list[float] = []
    is_lost = False
    for number, answer in enumerate(answers, 1):
        if answer.delivery is None:
            return Outcome(number, tuple(waits), "tokens")
        is_repeat, is_lost = is_lost, is_lost or answer.delivery is Delivery.UNKNOWN
        wait = max(answer.retry_after or 0.0, min(0.5 * 2.0 ** (number - 1), 8.0) * HALF)
        waits.append(0.0 if is_lost else wait)
        if is_repeat or answer.stops or answer.delivery is Delivery.REFUSED or sum(waits) > SETTINGS.total:
            return Outcome(number, tuple(waits[:-1]), "doubt" if is_lost else str(answer.delivery))
    raise AssertionError("the answers end with tokens")


class Issuer:
    """Answers in turn, and looks at the progress meanwhile."""

    def __init__(self, answers: list[Answer], progress: RefreshProgress) -> None:
        self.answers = answers
        self.progress = progress
        self.sent = 0

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        assert self.progress.is_uncancellable, "nobody may cancel while the token is being spent"
        answer = self.answers[self.sent]
        self.sent += 1
        assert self.progress.attempts == self.sent
        if answer.stops:
            self.progress.stop_retrying()
        if answer.delivery is None:
            return TOKENS
        raise IssuerUnavailable(str(answer.delivery), answer.retry_after, delivery=answer.delivery)

    async def revoke(self, refresh_token: Secret) -> None:
        raise NotImplementedError


async def played(answers: list[Answer]) -> Outcome:
    """Send a token to an issuer that answers so."""
    retries: list[tuple[int, float, str]] = []
    progress = RefreshProgress(lambda attempt, wait, error: retries.append((attempt, wait, str(error.delivery))))
    clock, issuer = SelfMovingClock(), Issuer(answers, progress)
    request = RefreshRequest(issuer, clock, Half(), SETTINGS, progress)
    try:
        end = "tokens" if await request.send(Secret("rt")) is TOKENS else "other tokens"
        assert progress.is_uncancellable, "until they are stored"
    except RefreshInDoubt as error:
        assert error.__suppress_context__ and request.is_lost
        end = "doubt"
    except IssuerUnavailable as error:
        assert error is progress.last_fault and not request.is_lost
        end = str(error.delivery)
    assert progress.is_uncancellable == (end == "tokens")
    assert retries == [(number + 2, wait, str(answers[number].delivery)) for number, wait in enumerate(clock.slept)], (
        "each repeat is told before its wait"
    )
    return Outcome(issuer.sent, tuple(clock.slept), end)


ANSWERS = st.builds(
    Answer,
    st.sampled_from([Delivery.NOT_SENT, Delivery.NOT_SENT, Delivery.NOT_PROCESSED, *Delivery]),
    st.sampled_from([None, None, 0.0, 0.1, 5.0, 29.0, 31.0]),
    st.sampled_from([False] * 9 + [True]),
)
LOST, NOT_SENT, BUSY = Answer(Delivery.UNKNOWN), Answer(Delivery.NOT_SENT), Answer(Delivery.NOT_PROCESSED, 0.1)


@example([LOST, NOT_SENT])  # the first may have been processed, whatever became of the second
@example([LOST, LOST])
@example([NOT_SENT, LOST])
@example([BUSY, Answer(Delivery.NOT_PROCESSED, 29.0), BUSY])
@example([NOT_SENT] * 10)
@example([Answer(Delivery.REFUSED)])
@example([Answer(Delivery.NOT_PROCESSED, 30.0)])
@given(st.lists(ANSWERS, max_size=12))
def test_what_is_sent_again_and_when(answers: list[Answer]) -> None:
    answers = [*answers, Answer()]
    assert asyncio.run(played(answers)) == expected(answers)
