"""The tree of errors: permanent and transient are told apart by type, and every message says what to do."""

import pickle
from traceback import walk_tb

import pytest

from authstate.engine.model import errors
from authstate.engine.model.errors import (
    AuthError,
    Delivery,
    EngineClosed,
    ExternalTokensActive,
    InvalidCredentials,
    IssuerUnavailable,
    LoginAttemptEnded,
    LoginFailed,
    NotSentInTime,
    NotSignedIn,
    ParentUnavailable,
    PermanentRefreshError,
    PolicyViolation,
    RecoveryExhausted,
    RefreshDeadReason,
    RefreshInDoubt,
    RefreshInterrupted,
    StoreBusy,
    StoreUnavailable,
    StoreUnreadable,
    TransientAuthError,
    TransitionRefused,
)
from authstate.engine.model.secret import Secret
from authstate.engine.ports import PartialRefresh

TRANSIENT = {
    TransientAuthError,
    IssuerUnavailable,
    NotSentInTime,
    ParentUnavailable,
    RefreshInDoubt,
    StoreUnavailable,
    StoreBusy,
    StoreUnreadable,
    RefreshInterrupted,
}
ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AuthError)]
EXAMPLES = [
    InvalidCredentials("a"),
    NotSignedIn("a"),
    RecoveryExhausted("a"),
    TransitionRefused("log_out", "api_key"),
    TransitionRefused("log_out", "api_key", "why"),
    ExternalTokensActive("use_api_key", "external_tokens"),
    PolicyViolation("a"),
    LoginAttemptEnded("a"),
    LoginFailed("a", "access_denied"),
    PermanentRefreshError(RefreshDeadReason.REVOKED, "detail"),
    IssuerUnavailable("a", retry_after=3.0),
    RefreshInDoubt("a", is_new=True),
    StoreBusy("a"),
    EngineClosed(),
]


@pytest.mark.parametrize("error", ALL)
def test_transient_by_type(error: type[AuthError]) -> None:
    assert issubclass(error, TransientAuthError) is (error in TRANSIENT)
    assert not issubclass(error, TransientAuthError) or not issubclass(error, PermanentRefreshError)


@pytest.mark.parametrize("error", EXAMPLES)
def test_an_error_for_the_next_caller_is_the_same_and_new(error: AuthError) -> None:
    try:
        raise error from ValueError("first")
    except AuthError:
        pass
    again = error.without_traceback()
    assert again is not error
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert (again.__traceback__, again.__cause__) == (None, None)


@pytest.mark.parametrize("reason", list(RefreshDeadReason))
def test_every_permanent_reason_has_its_own_cause_and_the_remedy(reason: RefreshDeadReason) -> None:
    message = str(PermanentRefreshError(reason))
    assert "Sign in again" in message
    assert sum(str(PermanentRefreshError(other)) == message for other in RefreshDeadReason) == 1
    detailed = PermanentRefreshError(reason, "The program was codex.")
    assert "The program was codex. Sign in again" in str(detailed)
    assert (detailed.reason, detailed.detail) == (reason, "The program was codex.")


def test_what_errors_carry() -> None:
    assert LoginFailed("no", "access_denied").code == "access_denied"
    assert LoginFailed("no").code is None
    assert IssuerUnavailable("no", 3.0).retry_after == 3.0
    assert IssuerUnavailable("no").retry_after is None
    doubt = RefreshInDoubt("The answer was lost", is_new=True)
    assert str(doubt).startswith("The answer was lost, so the refresh token may be spent: the access token is used")
    assert (doubt.delivery, doubt.is_new, doubt.retry_after) == (Delivery.UNKNOWN, True, None)
    partial = PartialRefresh(Secret("rt-new"))
    assert str(partial) == "the issuer answered without an access token"
    assert partial.refresh_token == Secret("rt-new")
    assert IssuerUnavailable("no").delivery is Delivery.NOT_SENT
    refused = TransitionRefused("log_out", "api_key")
    assert str(refused) == "'log_out' is not possible while the state is 'api_key'"
    assert "log out first" in str(ExternalTokensActive("use_api_key", "external_tokens"))


def test_plain_errors_can_be_pickled() -> None:
    assert str(pickle.loads(pickle.dumps(StoreBusy("held by 7")))) == "held by 7"


def test_an_issuer_that_is_not_available_may_say_why_in_a_code() -> None:
    assert IssuerUnavailable("m", code="overloaded").code == "overloaded"
    assert IssuerUnavailable("m", code="overloaded").without_traceback().code == "overloaded"


async def test_no_frame_of_a_stripped_error_holds_an_argument() -> None:
    def refuse(secret: str) -> None:
        raise InvalidCredentials("refused")

    async def refuse_later(secret: str) -> None:
        raise InvalidCredentials("refused")

    with pytest.raises(InvalidCredentials) as at_once:
        errors.strip_tracebacks(refuse)("a secret")
    with pytest.raises(InvalidCredentials) as later:
        await errors.strip_tracebacks(refuse_later)("a secret")
    for raised in (at_once, later):
        inner = [frame for frame, _ in walk_tb(raised.tb) if frame.f_code.co_filename == errors.__file__]
        assert len(inner) == 1
        assert not {"args", "kwargs", "secret"} & inner[0].f_locals.keys()
