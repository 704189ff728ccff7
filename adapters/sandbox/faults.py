"""The faults that are ordered for the endpoints of a sandbox, and which request gets which. No I/O."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

REFUSED_TOKEN: Final = "token_expired"
UNAVAILABLE: Final = "temporarily_unavailable"

Endpoint = Literal["all", "authorize", "refresh", "exchange", "revoke", "device", "whoami", "backend", "model"]
"""`all` stands for each of the others."""

_WITH_BEARER: Final = ("whoami", "backend", "model")


class Fault(StrEnum):
    """What happens to a request."""

    REFUSE = "refuse"
    """It is answered with an error status."""
    LOSE_ANSWER = "loseAnswer"
    """It is served, for example a refresh token is spent. Then the connection is reset instead of the answer."""
    SLOW = "slow"
    """It is served after some seconds."""
    DOWN = "down"
    """It is not served, and the connection is reset."""
    HOLD = "hold"
    """It waits for `release`."""
    REVOKE_ON_REUSE = "revokeOnReuse"
    """A refresh token that was spent before is sent: the whole login ends, as RFC 9700 recommends to issuers."""


class FaultOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An order for a fault.

    Raises:
        ValueError: a member does not belong to this fault, or one is missing.
    """

    fault: Fault
    endpoint: Endpoint = "all"
    times: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """For how many requests. None: for all, until the faults are cleared."""
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    """Of `refuse`. By default 401 where an access token is checked, else 503."""
    code: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """The error code of `refuse`. By default one that fits the default status."""
    retry_after: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    """Seconds, the `Retry-After` of `refuse`."""
    seconds: Annotated[float, Meta(gt=0, le=600)] | None = None
    """How long a `slow` request waits."""
    what: Literal["request", "answer"] | None = None
    """What `hold` holds: the request, before it is served (by default), or its answer."""

    def __post_init__(self) -> None:
        """Check that the members belong to the fault."""
        belonging = {"status": Fault.REFUSE, "code": Fault.REFUSE, "retry_after": Fault.REFUSE}
        belonging |= {"seconds": Fault.SLOW, "what": Fault.HOLD}
        for name, fault in belonging.items():
            if getattr(self, name) is not None and self.fault is not fault:
                shown = "retryAfter" if name == "retry_after" else name
                raise ValueError(f"{shown} belongs to the fault {fault}, not to {self.fault}")
        if self.fault is Fault.SLOW and self.seconds is None:
            raise ValueError("the fault slow needs seconds")
        if self.fault is Fault.REVOKE_ON_REUSE and self.endpoint not in ("all", "refresh"):
            raise ValueError(f"the fault revokeOnReuse is for the endpoint refresh, not for {self.endpoint}")

    def applies_to(self, endpoint: str) -> bool:
        """Whether a request to this endpoint gets the fault."""
        return self.endpoint in ("all", endpoint)

    def behaviour(self, endpoint: str) -> dict[str, Any]:
        """Return what it means to the loopback issuer, for a request to this endpoint."""
        if self.fault is Fault.REFUSE:
            has_bearer = endpoint in _WITH_BEARER
            status = self.status or (401 if has_bearer else 503)
            code = self.code or (REFUSED_TOKEN if has_bearer else UNAVAILABLE)
            return {"mode": "status", "status": status, "code": code, "retry_after": self.retry_after}
        if self.fault is Fault.SLOW:
            return {"delay": self.seconds}
        if self.fault is Fault.HOLD:
            return {"hold": self.what or "request"}
        return {"mode": "lost" if self.fault is Fault.LOSE_ANSWER else "reset"}


class OpenOrder(msgspec.Struct, frozen=True, rename="camel"):
    """An order that still applies to requests."""

    id: int
    order: FaultOrder
    times_left: int | None
    """None: it applies until the faults are cleared."""


class FaultOrders:
    """The open orders.

    An order with `times` comes before one without. Of those with `times`, the oldest comes first. Of those without, the
    newest applies.
    """

    def __init__(self) -> None:
        self._open: list[OpenOrder] = []
        self._last_id = 0

    def add(self, order: FaultOrder) -> OpenOrder:
        """Add an order and return it with its id."""
        self._last_id += 1
        added = OpenOrder(self._last_id, order, order.times)
        self._open.append(added)
        return added

    def take(self, endpoint: str) -> FaultOrder | None:
        """Return the order that a request to this endpoint gets, and count the request. None: there is none."""
        return self._take([one for one in self._open if one.order.applies_to(endpoint) and not _is_for_reuse(one)])

    def take_for_reuse(self) -> FaultOrder | None:
        """Return the order that a refresh token gets that was spent before, and count it. None: there is none."""
        return self._take([one for one in self._open if _is_for_reuse(one)])

    def _take(self, fitting: list[OpenOrder]) -> FaultOrder | None:
        counted = [one for one in fitting if one.times_left is not None]
        if not counted:
            return fitting[-1].order if fitting else None
        first = counted[0]
        assert first.times_left is not None
        left = first.times_left - 1
        place = self._open.index(first)
        self._open[place : place + 1] = [msgspec.structs.replace(first, times_left=left)] if left else []
        return first.order

    def listed(self) -> list[OpenOrder]:
        """The open orders, the oldest first."""
        return list(self._open)

    def clear(self, *, only: Fault | None = None) -> None:
        """Forget all orders, or those of one fault."""
        self._open = [one for one in self._open if only is not None and one.order.fault is not only]


def _is_for_reuse(one: OpenOrder) -> bool:
    return one.order.fault is Fault.REVOKE_ON_REUSE
