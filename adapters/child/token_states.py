"""What a child holds, compared with what the engine holds: the state table of one child's tokens."""

from authstate.adapters.child.token_dialects import ChildCredentials
from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.machines.words import IGNORED, Words
from authstate.engine.model.credentials import ApiKey

_FOLLOWING = ("in_step", "outdated", "handing_over", "retry_scheduled")

CHILD_TOKENS_TABLE = Table(
    name="child_tokens",
    title="Tokens of a child",
    states=("not_started", *_FOLLOWING, "closed"),
    initial="not_started",
    rows=(
        Row("start", ("not_started",), "in_step", "the child has no login, or has kept the engine's API key"),
        Row(
            "changed",
            ("in_step", "retry_scheduled"),
            "outdated",
            "the engine holds other credentials than the child was sent; a scheduled retry is cancelled",
        ),
        Row(
            "send",
            ("outdated",),
            "handing_over",
            "the credentials are sent, at once or after an open refresh request, whose answer may bring them",
        ),
        Row("taken", ("handing_over",), "in_step", "the child took them"),
        Row("not_taken", ("handing_over",), "retry_scheduled", "the child refused them, or was silent for 10 seconds"),
        Row("retry_due", ("retry_scheduled",), "outdated", "the pause is over: 5 seconds at first, at most 60"),
        Row(
            "answered",
            ("in_step", "outdated", "retry_scheduled"),
            "in_step",
            "the answer to a refresh request brought the newest tokens; a scheduled retry is cancelled",
        ),
        Row("answered", ("handing_over",), "handing_over", "the child takes what was sent before the answer first"),
        Row("answered", ("not_started",), "not_started", "the child asked before the engine is followed"),
        Row("answered", ("closed",), "closed", "the child asked once more before it ended"),
        Row("close", ("not_started", *_FOLLOWING, "closed"), "closed", "the child is gone, or about to end"),
    ),
)

CHILD_TOKENS_WORDS = Words(
    states={
        "not_started": "The child is not followed yet.",
        "in_step": "The child holds what the engine holds.",
        "outdated": "The engine holds other credentials, which are about to be sent.",
        "handing_over": "The credentials were sent, and the child has not answered yet.",
        "retry_scheduled": "The child did not take the credentials, and gets them again after a pause.",
        "closed": "The child is gone, or about to end.",
    },
    missing_in={
        (state, "changed"): IGNORED for state in ("not_started", "outdated", "handing_over", "closed")
    },  # what is outdated already, or not followed, is not compared
    timeouts={
        "handing_over": "the child has 10 seconds to answer; then `not_taken`",
        "retry_scheduled": "5 seconds at first, twice as long each time, at most 60; then `retry_due`",
    },
)


class ChildTokens:
    """The tokens of one child: a model of the table.

    Only its methods change it. A trigger that the table does not allow raises TransitionRefused.
    """

    def __init__(self) -> None:
        self.state: str = CHILD_TOKENS_TABLE.initial
        self.sent: ChildCredentials | None = None
        """What the child was sent last; None after a sign-out, and before anything was sent."""
        self.may_hold_login: bool = False
        """Whether the child may hold a login: true from the moment that one is sent until a sign-out is taken."""

    @property
    def is_followed(self) -> bool:
        """Whether the child gets what the engine holds."""
        return self.state in _FOLLOWING

    def start(self, kept: ChildCredentials | None) -> None:
        """Follow the engine from here on. `kept` is the API key that the child has already, if it is the engine's."""
        self._fire("start")
        self._remember(kept or self.sent)

    def compare(self, wanted: ChildCredentials | None) -> bool:
        """Pull `changed` if the engine holds other credentials than the child was sent. Return whether it does."""
        is_changed = self.state in ("in_step", "retry_scheduled") and not acts_the_same(wanted, self.sent)
        if is_changed:
            self._fire("changed")
        return is_changed

    def send(self, credentials: ChildCredentials | None) -> None:
        """The credentials are about to be sent; None signs the child out."""
        self._fire("send")
        self._remember(credentials)

    def taken(self, credentials: ChildCredentials | None) -> bool:
        """The child took what was sent. Return whether no answer has brought newer tokens meanwhile."""
        self._fire("taken")
        is_newest = self.sent is credentials
        if is_newest and credentials is None:
            self.may_hold_login = False
        return is_newest

    def not_taken(self) -> None:
        """The child did not take what was sent, or may not have."""
        self._fire("not_taken")

    def retry_due(self) -> None:
        """It is time to send the credentials again."""
        self._fire("retry_due")

    def answered(self, credentials: ChildCredentials) -> None:
        """The answer to a refresh request holds these."""
        self._fire("answered")
        self._remember(credentials)

    def close(self) -> None:
        """The child is gone, or about to end."""
        self._fire("close")

    def _fire(self, trigger: str) -> None:
        shared_machine(CHILD_TOKENS_TABLE).fire(self, trigger)

    def _remember(self, credentials: ChildCredentials | None) -> None:
        self.sent = credentials
        self.may_hold_login = self.may_hold_login or credentials is not None


def acts_the_same(one: ChildCredentials | None, other: ChildCredentials | None) -> bool:
    """Whether a child acts the same with both."""
    if isinstance(one, ApiKey) or isinstance(other, ApiKey) or one is None or other is None:
        return one == other
    return one.access_token == other.access_token and one.account == other.account
