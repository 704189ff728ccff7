"""Leases: who may get access tokens of an account from a broker, for how long, and what ended it.

A lease is known by the digest of its handle (model/lease_handle.py). A lease that is over stays over: no row of the
table leads back.
"""

from enum import StrEnum

import msgspec

from authstate.engine.machines.table import Row, Table, shared_machine
from authstate.engine.machines.words import Words
from authstate.engine.model.account import Account


class LeaseState(StrEnum):
    """Whether a lease yields access tokens."""

    ACTIVE = "active"
    EXPIRED = "expired"
    ENDED = "ended"


class LeaseTrigger(StrEnum):
    """What can happen to a lease."""

    EXPIRE = "expire"
    END = "end"


_ACTIVE, _EXPIRED, _ENDED = LeaseState

LEASE_TABLE = Table(
    name="lease",
    title="Lease",
    states=tuple(LeaseState),
    initial=_ACTIVE,
    rows=(
        Row(LeaseTrigger.EXPIRE, (_ACTIVE,), _EXPIRED, "its time is over"),
        Row(LeaseTrigger.END, (_ACTIVE, _EXPIRED), _ENDED, "its owner, its client or the removal of its account"),
    ),
)

LEASE_WORDS = Words(
    states={
        _ACTIVE: "The lease yields access tokens of the account that it was made for.",
        _EXPIRED: "Its time is over, and it yields no token.",
        _ENDED: "Somebody ended it, and it yields no token.",
    },
    timeouts={_ACTIVE: "until `expires_at`, if the lease has an end; then `expire`"},
)


class Lease(msgspec.Struct, frozen=True):
    """One lease. It holds no secret."""

    id: str
    """Its name for a person: 8 hexadecimal digits, or 16 in a database. They are not part of the handle."""
    digest: str
    """`LeaseHandle.digest` of its handle."""
    account: str
    """The id of the account in the vault or in the database."""
    workspace_id: str | None = None
    user_id: str | None = None
    """Who was signed in when it was made. It yields tokens of nobody else, even if somebody else signs in there."""
    label: str = ""
    """What its owner calls it."""
    created_at: float = 0.0
    """Seconds since the epoch."""
    expires_at: float | None = None
    """Seconds since the epoch. None if it has no end."""
    state: LeaseState = LeaseState.ACTIVE
    is_of_home: bool = False
    """It stands in the home whose login the vault took over."""
    signs_out: bool = False
    """Signing out with it signs the account out, because it stands where codex expects the login of its owner."""

    def after(self, trigger: LeaseTrigger) -> "Lease":
        """Return the lease after a trigger. Raises TransitionRefused if the table has no such row."""
        model = _Model(self.state)
        shared_machine(LEASE_TABLE).fire(model, trigger)
        return msgspec.structs.replace(self, state=LeaseState(model.state))

    def at(self, now: float) -> "Lease":
        """Return the lease as it is at `now`, in seconds since the epoch: an active one may have expired."""
        if self.state is _ACTIVE and self.expires_at is not None and now >= self.expires_at:
            return self.after(LeaseTrigger.EXPIRE)
        return self

    def is_for(self, account: Account) -> bool:
        """Whether it was made for this account: the same workspace and, if both name one, the same user."""
        users = {self.user_id, account.user_id} - {None}
        return self.workspace_id == account.account_id and len(users) < 2


class LeaseRequest(msgspec.Struct, frozen=True):
    """What a new lease is for."""

    account: str
    """The id of an account."""
    owner: Account
    """Who is signed in there."""
    ttl: float | None = None
    """Seconds. None: without an end."""
    label: str = ""
    is_of_home: bool = False
    signs_out: bool = False


class _Model:
    """The state that the table changes."""

    __slots__ = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state
