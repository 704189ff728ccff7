"""A clock that jumps while a broker runs: its process sees another time through libfaketime."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from interop.test_broker_service import authstate
from support.brokers import BrokerService
from support.real_parts import RealParts

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
DAY = 86_400


class Jumping:
    """A broker whose clock can be set.

    Args:
        home: the home.
        issuer: where it refreshes. Its clock does not jump.
        library: libfaketime.
        setting: the file that says how far the clock is off.
    """

    def __init__(self, home: Path, issuer: LoopbackIssuer, library: Path, setting: Path) -> None:
        self._home = home
        self._issuer = issuer
        self._setting = setting
        self.jump(0)
        self.service = BrokerService(
            home,
            issuer,
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(setting),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_DISABLE_SHM="1",
        )

    def jump(self, seconds: float) -> None:
        """Set the clock so far away from the real time."""
        self._setting.write_text(f"{seconds:+f}\n")

    def lease(self, ttl: str) -> str:
        """The handle of a new lease."""
        handle: str = json.loads(authstate(self._home, self._issuer, "lease", "new", "--json", "--ttl", ttl).stdout)[
            "handle"
        ]
        return handle

    def ask(self, handle: str, reason: str = "expiring") -> Any:
        """What the broker answers to a codex with this handle: the status, and the members."""
        body = {"grant_type": "refresh_token", "refresh_token": handle, "refresh_reason": reason}
        answer = httpx.post(f"{self.service.url}/oauth/token", json=body, trust_env=False, timeout=60)
        return answer.status_code, answer.json()

    @property
    def refreshes(self) -> tuple[int, int]:
        """How many refreshes the issuer accepted and refused."""
        stats = self._issuer.stats()
        return stats["refreshes_accepted"], stats["refreshes_refused"]


@pytest.fixture
def jumping(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path, real_parts: RealParts) -> Iterator[Jumping]:
    made = Jumping(make_home(**PERSON), issuer, real_parts.faketime(), tmp_path / "clock")
    with made.service:
        yield made


def test_a_lease_ends_with_its_time_and_does_not_come_back(jumping: Jumping) -> None:
    handle = jumping.lease("10m")
    assert jumping.ask(handle)[0] == 200
    jumping.jump(DAY)
    status, refused = jumping.ask(handle)
    assert (status, refused["error"]["code"]) == (401, "refresh_token_invalidated")
    assert "expired" in refused["error"]["message"]
    jumping.jump(-DAY)
    assert jumping.ask(handle)[0] == 401


@pytest.mark.parametrize("seconds", [DAY, 400 * DAY])
def test_a_jump_forward_costs_one_refresh(jumping: Jumping, seconds: float) -> None:
    """All tokens look expired by then, also those that the issuer gives."""
    handle = jumping.lease("none")
    before = jumping.ask(handle)[1]["access_token"]
    assert jumping.refreshes == (0, 0)
    jumping.jump(seconds)
    found = {jumping.ask(handle)[1]["access_token"] for _ in range(10)}
    assert jumping.refreshes == (1, 0)
    assert len(found) == 1
    assert before not in found
    jumping.jump(0)
    assert jumping.ask(handle)[1]["access_token"] in found
    assert jumping.refreshes == (1, 0)


def test_a_jump_back_costs_nothing(jumping: Jumping) -> None:
    handle = jumping.lease("none")
    before = jumping.ask(handle)[1]["access_token"]
    jumping.jump(-400 * DAY)
    assert jumping.ask(handle)[1]["access_token"] == before
    assert jumping.refreshes == (0, 0)


@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_many_clients_at_once_after_a_jump_cost_one_refresh_at_most(jumping: Jumping, seconds: float) -> None:
    handle = jumping.lease("none")
    jumping.jump(seconds)
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(jumping.ask, [handle] * 32))
    assert {status for status, _ in answers} == {200}
    assert len({granted["access_token"] for _, granted in answers}) == 1
    assert jumping.refreshes == (1 if seconds > 0 else 0, 0)


@pytest.mark.parametrize("seconds", [2 * DAY, 0, -DAY])
def test_a_jump_while_the_issuer_is_asked(jumping: Jumping, issuer: LoopbackIssuer, seconds: float) -> None:
    """The token that is being spent is sent once, and its answer is used."""
    handle = jumping.lease("none")
    issuer.hold("refresh", "answer")
    jumping.jump(DAY)
    with ThreadPoolExecutor() as clients:
        first = clients.submit(jumping.ask, handle)
        while jumping.refreshes == (0, 0):
            assert not first.done(), first.result()
        jumping.jump(seconds)
        second = clients.submit(jumping.ask, handle)
        issuer.release("refresh")
        assert first.result()[0] == second.result()[0] == 200
    assert jumping.refreshes == (1, 0)
    assert jumping.ask(handle)[1]["access_token"] == first.result()[1]["access_token"]
    assert jumping.refreshes == (1, 0)
