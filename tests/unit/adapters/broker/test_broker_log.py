"""The broker's log: what is refused, leases, and who has the login of the home; and that nobody can flood it."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.app import create_broker_app
from authstate.adapters.broker.broker_log import MOST_LEASES, BrokerLog
from authstate.adapters.broker.repeated_lines import MOST_LINES, WINDOW, Members, RepeatedLines
from authstate.adapters.vault.adoption import Adoption
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import ManualClock, make_tokens

Line = tuple[str, dict[str, Any]]


class Logged:
    """A broker that writes its log into a list, and a client."""

    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.world = BrokerInMemory(home, self.clock)
        self.lines: list[Line] = []
        self.log = BrokerLog(self.world.broker, self._write, self._write)
        app = create_broker_app(self.world.broker, on_refusal=self.log.refused)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    def _write(self, event: str, /, **members: object) -> None:
        self.lines.append((event, members))

    async def present(self, token: str, path: str = "/oauth/token") -> int:
        """Present a handle or a refresh token. Returns the status."""
        form = {"grant_type": "refresh_token", "refresh_token": token, "token": token}
        return (await self.client.post(path, data=form)).status_code

    async def look(self) -> list[Line]:
        """What is written at the next look."""
        self.lines.clear()
        await self.log.look()
        return list(self.lines)


@pytest.fixture
async def logged(tmp_path: Path) -> Logged:
    made = Logged(tmp_path)
    await made.world.store()
    await made.look()
    return made


async def test_a_refusal_names_the_lease_and_no_handle(logged: Logged) -> None:
    made = await make_lease(logged.world.broker, None, 3600.0, "box")
    handle = made.handle.secret.reveal()
    assert await logged.present(handle) == 200
    assert logged.lines == []
    logged.world.leases.end(made.lease.id)
    assert await logged.present(handle) == 400
    [(event, members)] = logged.lines
    assert (event, members["error"], members["endpoint"]) == ("oauth_refused", "invalid_grant", "token")
    assert (members["lease"], members["account"]) == (made.lease.id, "home")
    assert "was ended" in members["message"]
    assert handle not in repr(members)


async def test_a_refusal_of_a_refresh_token_names_its_account(logged: Logged) -> None:
    stored = await logged.world.store(make_tokens(expires_in=-60, now=logged.clock.now()))
    assert isinstance(stored, ChatgptTokens)
    token = stored.refresh_token.reveal()
    logged.world.authority.kill()
    assert await logged.present(token) == 400
    [(_, members)] = logged.lines
    assert (members["error"], members["account"]) == ("invalid_grant", "home")
    assert "lease" not in members
    assert token not in repr(members)


async def test_unknown_tokens_do_not_flood_the_log(logged: Logged) -> None:
    for number in range(50):
        assert await logged.present(f"rt-unknown-{number}") == 400
    [(_, members)] = logged.lines
    assert members["error"] == "invalid_grant"
    assert not {"lease", "account", "repeated"} & members.keys()
    assert "rt-unknown" not in repr(members)
    assert await logged.look() == [], "the minute is not over"
    logged.clock.advance(WINDOW)
    [(_, counted)] = await logged.look()
    assert counted == {**members, "repeated": 49}
    logged.clock.advance(WINDOW)
    assert await logged.look() == []
    await logged.present("rt-unknown")
    assert len(logged.lines) == 1


async def test_what_is_no_request_is_logged_too(logged: Logged) -> None:
    assert (await logged.client.post("/oauth/revoke", content=b"{")).status_code == 400
    [(_, members)] = logged.lines
    assert (members["endpoint"], members["error"]) == ("revoke", "invalid_request")


async def test_leases_that_any_process_makes_and_ends(logged: Logged) -> None:
    made = await make_lease(logged.world.broker, None, 60.0, "box")
    expires_at = made.lease.expires_at
    [line] = await logged.look()
    assert line == (
        "lease_made",
        {"lease": made.lease.id, "account": "home", "label": "box", "expires_at": expires_at},
    )
    assert await logged.look() == []
    logged.clock.advance(60)
    assert await logged.look() == [("lease_over", {"lease": made.lease.id, "account": "home", "state": "expired"})]
    other = await make_lease(logged.world.broker, None, None)
    assert [event for event, _ in await logged.look()] == ["lease_made"]
    logged.world.leases.end(other.lease.id)
    assert await logged.look() == [("lease_over", {"lease": other.lease.id, "account": "home", "state": "ended"})]


async def test_many_leases_at_once_are_counted(logged: Logged) -> None:
    for _ in range(MOST_LEASES + 3):
        await make_lease(logged.world.broker, None, None)
    lines = await logged.look()
    assert len(lines) == MOST_LEASES + 1
    assert lines[-1] == ("more_leases", {"count": 3})


async def test_the_login_moves_into_the_vault_and_back(logged: Logged) -> None:
    adoption = Adoption(logged.world.vault, logged.world.leases)
    assert await adoption.adopt()
    assert [event for event, _ in await logged.look()] == ["lease_made", "login_adopted"]
    assert await adoption.release()
    assert [event for event, _ in await logged.look()] == ["lease_over", "login_released"]
    assert await logged.look() == []


async def test_a_list_of_leases_that_cannot_be_read_is_no_change(logged: Logged) -> None:
    await make_lease(logged.world.broker, None, None)
    await logged.look()
    place = Path(logged.world.vault.folder) / "leases.json"
    content = place.read_text()
    place.write_text("{nonsense")
    assert await logged.look() == []
    place.write_text(content)
    assert await logged.look() == []


async def test_the_end_writes_what_was_counted(logged: Logged) -> None:
    for _ in range(3):
        await logged.present("rt-unknown")
    logged.lines.clear()
    await logged.log.close()
    assert [members["repeated"] for _, members in logged.lines] == [2]


def test_lines_that_say_the_same_are_bounded() -> None:
    now = [0.0]
    written: list[Members] = []
    lines = RepeatedLines(written.append, lambda: now[0])
    for number in range(MOST_LINES + 100):
        lines.add(number, {"number": number})
    assert len(written) == MOST_LINES + 1, "all others are one line"
    now[0] += WINDOW
    written.clear()
    lines.flush()
    assert written == [{"number": MOST_LINES, "repeated": 99}]
    now[0] += WINDOW
    lines.flush()
    lines.add(1, {"number": 1})
    assert written[1:] == [{"number": 1}]
