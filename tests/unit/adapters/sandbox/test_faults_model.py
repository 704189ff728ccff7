"""Faults in any order, over HTTP, against a small reference: which request gets which, and what the token is then."""

import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.sandbox_client import SandboxClient

from authstate.adapters.sandbox.server import RunningSandbox

LOST: Final = "lost"
"""The outcome of a request whose connection was reset."""

ENDPOINTS = st.sampled_from(["all", "refresh", "backend", "revoke"])
TIMES = st.sampled_from([None, 1, 2, 3])
STATUSES = st.sampled_from([400, 401, 429, 503])


class Reference:
    """What a sandbox must do. One application holds one login, and sends the last refresh token that it received."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.used_twice = 0
        self.refreshes = 0
        self.token_works = True
        """Whether the refresh token of the application is accepted."""
        self.is_spent = False
        """Whether it is refused because it was accepted before."""
        self.access_works = True

    def fault_for(self, endpoint: str) -> dict[str, Any]:
        """The order that the next request to an endpoint gets; `{}` if there is none."""
        others = [order for order in self.orders if order["fault"] != "revokeOnReuse"]
        return self.taken_of([order for order in others if order["endpoint"] in ("all", endpoint)])

    def taken_of(self, fitting: list[dict[str, Any]]) -> dict[str, Any]:
        for order in fitting:
            if order["times"] is not None:
                order["times"] -= 1
                if order["times"] == 0:
                    self.orders.remove(order)
                return order
        return fitting[-1] if fitting else {}

    def refresh(self) -> int | str:
        fault = self.fault_for("refresh")
        if fault.get("fault") in ("refuse", "down"):
            return int(fault["status"]) if "status" in fault else LOST
        if self.token_works:
            self.refreshes += 1
            status = 200
        else:
            if self.is_spent:
                self.reuse()
            status = 401
        if fault.get("fault") == "loseAnswer":
            if self.token_works:
                self.token_works, self.is_spent = False, True
            return LOST
        if self.token_works:
            self.access_works = True
        return status

    def reuse(self) -> None:
        """A refresh token that was accepted before is served."""
        self.used_twice += 1
        if self.taken_of([order for order in self.orders if order["fault"] == "revokeOnReuse"]):
            self.token_works = self.access_works = False

    def send_again(self) -> int | str:
        """Send an older refresh token than the last one."""
        fault = self.fault_for("refresh")
        if fault.get("fault") in ("refuse", "down"):
            return int(fault["status"]) if "status" in fault else LOST
        self.reuse()
        return LOST if fault.get("fault") == "loseAnswer" else 401

    def use_backend(self) -> int | str:
        fault = self.fault_for("backend")
        if fault.get("fault") in ("refuse", "down"):
            return int(fault["status"]) if "status" in fault else LOST
        return LOST if fault.get("fault") == "loseAnswer" else 200 if self.access_works else 401

    def revoke(self) -> int | str:
        fault = self.fault_for("revoke")
        if fault.get("fault") in ("refuse", "down"):
            return int(fault["status"]) if "status" in fault else LOST
        self.token_works = False
        return LOST if fault.get("fault") == "loseAnswer" else 200


class Faults(RuleBasedStateMachine):
    """Orders, requests and changes in any order."""

    control: SandboxClient

    def __init__(self) -> None:
        super().__init__()
        self.control.post("reset")
        self.begin()

    def begin(self) -> None:
        self.tokens = self.control.sign_in()
        self.older: str | None = None
        self.reference = Reference()
        self.refreshes_before = self.control.counts()["refreshes"]
        self.used_twice_before = self.control.counts()["refreshTokensUsedTwice"]

    def order(self, fault: str, endpoint: str, times: int | None, **more: Any) -> None:
        body = {"fault": fault, "endpoint": endpoint, **more} | ({} if times is None else {"times": times})
        self.control.post("faults", **body)
        self.reference.orders.append({"fault": fault, "endpoint": endpoint, "times": times, **more})

    @rule(endpoint=ENDPOINTS, times=TIMES, status=STATUSES)
    def refuse(self, endpoint: str, times: int | None, status: int) -> None:
        self.order("refuse", endpoint, times, status=status)

    @rule(fault=st.sampled_from(["loseAnswer", "down"]), endpoint=ENDPOINTS, times=TIMES)
    def order_loss(self, fault: str, endpoint: str, times: int | None) -> None:
        self.order(fault, endpoint, times)

    @rule(times=TIMES)
    def revoke_on_reuse(self, times: int | None) -> None:
        self.order("revokeOnReuse", "refresh", times)

    @rule(endpoint=ENDPOINTS, times=TIMES)
    def be_slow(self, endpoint: str, times: int | None) -> None:
        self.order("slow", endpoint, times, seconds=0.001)

    @precondition(lambda self: self.reference.orders)
    @rule()
    def clear(self) -> None:
        self.control.clear_faults()
        self.reference.orders.clear()

    @rule()
    def refresh(self) -> None:
        try:
            answer = self.control.refresh(self.tokens["refresh_token"])
        except httpx.TransportError:
            assert self.reference.refresh() == LOST
            return
        assert answer.status_code == self.reference.refresh()
        if answer.status_code == 200:
            self.older, self.tokens = self.tokens["refresh_token"], answer.json()

    @precondition(lambda self: self.older is not None)
    @rule()
    def send_an_older_token_again(self) -> None:
        assert self.older is not None
        try:
            outcome: int | str = self.control.refresh(self.older).status_code
        except httpx.TransportError:
            outcome = LOST
        assert outcome == self.reference.send_again()

    @rule()
    def use_backend(self) -> None:
        try:
            outcome: int | str = self.control.usage(self.tokens["access_token"])
        except httpx.TransportError:
            outcome = LOST
        assert outcome == self.reference.use_backend()

    @rule()
    def sign_out(self) -> None:
        try:
            answer = self.control.http.post("/oauth/revoke", json={"token": self.tokens["refresh_token"]})
            outcome: int | str = answer.status_code
        except httpx.TransportError:
            outcome = LOST
        assert outcome == self.reference.revoke()

    @rule()
    def expire(self) -> None:
        self.control.post("expire")
        self.reference.access_works = False

    @rule()
    def sign_in_again(self) -> None:
        orders = self.reference.orders
        self.begin()
        self.reference.orders = orders

    @invariant()
    def it_counts_as_the_reference_does(self) -> None:
        counts = self.control.counts()
        assert counts["refreshes"] - self.refreshes_before == self.reference.refreshes
        assert counts["refreshTokensUsedTwice"] - self.used_twice_before == self.reference.used_twice

    @invariant()
    def it_lists_the_open_orders(self) -> None:
        found = [(one["fault"], one["endpoint"], one["timesLeft"]) for one in self.control.get("faults")["faults"]]
        assert found == [(one["fault"], one["endpoint"], one["times"]) for one in self.reference.orders]


def test_any_order_of_faults() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningSandbox(Path(folder)) as sandbox,
        httpx.Client(base_url=sandbox.pointing.url, trust_env=False, timeout=30) as http,
    ):
        Faults.control = SandboxClient(http)
        Faults.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
        Faults.TestCase("runTest").runTest()
