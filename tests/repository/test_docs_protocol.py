"""docs/protocol.md: its lists are those of the code and of the interop tests."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from support.paths import REPO

from authstate.adapters.app_server import wire
from authstate.adapters.app_server.account_api import AccountApi
from authstate.adapters.app_server.interactive_logins import InteractiveLogins
from authstate.adapters.conformance.differences import AUTHSTATE_MEMBERS, CODEX_MEMBERS, DIFFERENCES
from authstate.adapters.jsonrpc import framing, peer
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.stores.memory import MemoryStore
from authstate.engine.engine import AuthEngine
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.testing import FakeAuthority, make_tokens

PAGE = (REPO / "docs" / "protocol.md").read_text(encoding="utf-8")


def shown(outcome: list[Any]) -> str:
    """An outcome in a cell of the table."""
    parts = []
    for method, content in outcome:
        if isinstance(content, int):
            parts.append(f"error {content}")
        else:
            parts.append(f"`{method}`" + (f" `{json.dumps(content)}`" if isinstance(content, dict) else ""))
    return ", then ".join(parts)


def grouped(members: dict[tuple[str, str, str], str]) -> Iterable[str]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for (version, method, name), reason in members.items():
        groups.setdefault((version, method, reason), []).append(f"`{name}`")
    for (version, method, reason), names in groups.items():
        yield f"| {version} | `{method}` | {', '.join(names)} | {reason} |"


def generated() -> str:
    """The section about the differences, from the list that the interop tests check."""
    lines = ["", "| codex | where | codex does | authstate does | why |", "|---|---|---|---|---|"]
    for item in DIFFERENCES:
        places = "; ".join(f"{scene}: {step}" for scene, step in item.places)
        cells = (", ".join(item.versions), places, shown(item.codex), shown(item.authstate), item.reason)
        lines.append("| " + " | ".join(cells) + " |")
    head = ["| codex | method | members | why |", "|---|---|---|---|"]
    lines += ["", "Members that only codex sends:", "", *head, *grouped(CODEX_MEMBERS)]
    lines += ["", "Members that only authstate sends:", "", *head, *grouped(AUTHSTATE_MEMBERS)]
    return "\n".join([*lines, "", ""])


def test_the_differences_are_those_that_the_interop_tests_check() -> None:
    [section] = re.findall(r"<!-- differences -->\n(.*?)<!-- end of differences -->", PAGE, re.S)
    assert section == generated()


def first_cells(heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    [text] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return set(re.findall(r"^\| `?([^`|]+?)`? \|", text, re.M)) - {"method", "code", "limit"}


async def test_the_methods_are_those_that_are_answered() -> None:
    async def rate_limits() -> object:
        return {}

    engine = AuthEngine(MemoryStore(), FakeAuthority(make_tokens()))
    logins = InteractiveLogins(engine, Issuer("not a URL", "app"))
    api = AccountApi(engine, lambda method, params: None, rate_limits=rate_limits, logins=logins)
    with pytest.raises(peer.RpcError) as refusal:
        api.handle("no/such/method", None)
    assert first_cells("Methods") == set(re.findall(r"`([^`]+)`", refusal.value.message))


def test_the_messages_of_the_server_and_the_error_codes_are_those_of_the_code() -> None:
    told = {wire.LOGIN_COMPLETED, wire.ACCOUNT_UPDATED, wire.REFRESH_METHOD}
    assert first_cells("Messages from authstate") == told
    names = ("PARSE_ERROR", "INVALID_REQUEST", "INTERNAL_ERROR", "OVERLOADED")
    assert first_cells("Errors") == {str(getattr(framing, name)) for name in names}


def test_the_limits_are_those_of_the_code() -> None:
    longest = peer.LONGEST_LINE // 2**20
    waiting = peer.MAX_WAITING_BYTES // 2**20
    assert f"| length of a line | {longest} MiB |" in PAGE
    assert f"| unanswered requests | {peer.MAX_PENDING}, and {waiting} MiB of those that wait |" in PAGE
    assert f"| time for a parent to answer | {RefreshSettings().parent_timeout:g} s |" in PAGE
