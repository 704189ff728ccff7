"""Orders for faults: what they mean to a request, and in which order they apply."""

import msgspec
import pytest

from authstate.adapters.sandbox.faults import Fault, FaultOrder, FaultOrders


@pytest.mark.parametrize(
    ("order", "endpoint", "behaviour"),
    [
        (FaultOrder(Fault.DOWN), "refresh", {"mode": "reset"}),
        (FaultOrder(Fault.LOSE_ANSWER), "refresh", {"mode": "lost"}),
        (FaultOrder(Fault.SLOW, seconds=2), "model", {"delay": 2}),
        (FaultOrder(Fault.HOLD), "refresh", {"hold": "request"}),
        (FaultOrder(Fault.HOLD, what="answer"), "refresh", {"hold": "answer"}),
        (
            FaultOrder(Fault.REFUSE),
            "backend",
            {"mode": "status", "status": 401, "code": "token_expired", "retry_after": None},
        ),
        (
            FaultOrder(Fault.REFUSE),
            "refresh",
            {"mode": "status", "status": 503, "code": "temporarily_unavailable", "retry_after": None},
        ),
        (
            FaultOrder(Fault.REFUSE, status=429, code="slow_down", retry_after=7),
            "refresh",
            {"mode": "status", "status": 429, "code": "slow_down", "retry_after": 7},
        ),
    ],
)
def test_what_an_order_means(order: FaultOrder, endpoint: str, behaviour: dict[str, object]) -> None:
    assert order.behaviour(endpoint) == behaviour


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"fault": "slow"}', "the fault slow needs seconds"),
        ('{"fault": "down", "status": 500}', "status belongs to the fault refuse, not to down"),
        ('{"fault": "down", "retryAfter": 5}', "retryAfter belongs to the fault refuse, not to down"),
        ('{"fault": "refuse", "seconds": 1}', "seconds belongs to the fault slow, not to refuse"),
        ('{"fault": "refuse", "what": "answer"}', "what belongs to the fault hold, not to refuse"),
        ('{"fault": "refuse", "times": 0}', "Expected `int` >= 1"),
        ('{"fault": "refuse", "status": 200}', "Expected `int` >= 400"),
        ('{"fault": "explode"}', "Invalid enum value 'explode'"),
        ('{"fault": "down", "endpoint": "nowhere"}', "Invalid enum value 'nowhere'"),
        ('{"fault": "revokeOnReuse", "endpoint": "backend"}', "is for the endpoint refresh, not for backend"),
        ('{"fault": "revokeOnReuse", "status": 400}', "status belongs to the fault refuse"),
        ('{"fault": "down", "time": 1}', "Object contains unknown field `time`"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.json.decode(text, type=FaultOrder)


def test_counted_orders_come_first_the_oldest_first_and_the_newest_lasting_one_follows() -> None:
    orders = FaultOrders()
    lasting = [FaultOrder(Fault.DOWN), FaultOrder(Fault.SLOW, seconds=1)]
    counted = [FaultOrder(Fault.REFUSE, times=2), FaultOrder(Fault.LOSE_ANSWER, times=1)]
    for order in (lasting[0], counted[0], lasting[1], counted[1]):
        orders.add(order)
    taken = [orders.take("refresh") for _ in range(5)]
    assert taken == [counted[0], counted[0], counted[1], lasting[1], lasting[1]]


def test_an_order_for_another_endpoint_waits_for_it() -> None:
    orders = FaultOrders()
    order = FaultOrder(Fault.REFUSE, endpoint="backend", times=1)
    orders.add(order)
    assert orders.take("refresh") is None
    assert [one.times_left for one in orders.listed()] == [1]
    assert orders.take("backend") is order
    assert orders.listed() == []


def test_one_kind_of_fault_can_be_cleared_alone() -> None:
    orders = FaultOrders()
    hold, down = FaultOrder(Fault.HOLD), FaultOrder(Fault.DOWN)
    orders.add(hold)
    orders.add(down)
    orders.clear(only=Fault.HOLD)
    assert [one.order for one in orders.listed()] == [down]
    orders.clear()
    assert orders.listed() == []


def test_a_request_that_is_no_reuse_takes_no_order_for_reuse() -> None:
    orders = FaultOrders()
    once = orders.add(FaultOrder(Fault.REVOKE_ON_REUSE, times=1))
    assert orders.take("refresh") is None
    assert orders.listed() == [once]
    assert orders.take_for_reuse() == once.order
    assert orders.take_for_reuse() is None
