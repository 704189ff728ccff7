"""docs/broker-api.md: its commands run, and its JSON has the members of the real answers."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.brokers import BrokerService
from support.paths import REPO
from support.wire_client import clean_environment

from authstate.adapters.broker import app, connections, event_streams, local_api
from authstate.adapters.broker.oauth_errors import OAuthError
from authstate.adapters.broker.oauth_messages import LARGEST_BODY
from authstate.adapters.broker.token_grants import GRANTS
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PAGE = (REPO / "docs" / "broker-api.md").read_text(encoding="utf-8")


@pytest.fixture
def broker(make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[BrokerService]:
    with BrokerService(make_home(email="person@example.com"), issuer) as running:
        yield running


@pytest.fixture
def local(broker: BrokerService) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(broker.socket))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as client:
        yield client


def block_of(heading: str) -> Any:
    """The first JSON block below a heading."""
    section = PAGE.partition(f"\n{heading}\n")[2]
    return json.loads(section.partition("```json\n")[2].partition("```")[0])


def shape(value: Any) -> Any:
    """The members of JSON, without the values."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) else None


def test_the_json_is_that_of_the_broker(broker: BrokerService, local: httpx.Client) -> None:
    made = local.post("/v1/leases", json={"ttl": 3600, "label": "ci"})
    sent = {"grant_type": "refresh_token", "refresh_token": made.json()["handle"]}
    answers = {
        "## OAuth": local.post("/oauth/token", data=sent),
        "## Health and metrics": local.get("/healthz"),
        "## The JSON API": local.get("/v1/accounts/work"),
        "### GET /v1/token": local.get("/v1/token"),
        "### GET /v1/accounts": local.get("/v1/accounts"),
        "### GET /v1/accounts/NAME": local.get("/v1/accounts/home"),
        "### GET /v1/leases": local.get("/v1/leases"),
        "### POST /v1/leases": made,
        "### GET /v1/state": local.get("/v1/state"),
    }
    for heading, answer in answers.items():
        assert shape(block_of(heading)) == shape(answer.json()), heading
    assert PAGE.count("```json\n") == len(answers)


def test_the_metrics_are_those_of_the_broker(broker: BrokerService, local: httpx.Client) -> None:
    local.post("/oauth/token", data={})
    text = local.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", text, re.M))
    rows = PAGE.partition("| metric |")[2].partition("\n\n")[0].splitlines()
    named = {name for row in rows if "with `--store`" not in row for name in re.findall(r"`(authstate_\w+?)`", row)}
    found = {name for name in families if not name.startswith("authstate_pool_") and not name.endswith("_created")}
    assert found == named
    assert "authstate_pool_open" in families


def test_the_limits_are_those_of_the_code() -> None:
    assert (connections.HEAD_WITHIN, app._BODY_WITHIN) == (10, 10)
    limits = PAGE.partition("## Limits")[2].partition("\n## ")[0]
    for number in (
        f"{connections.LARGEST_HEAD // 1024} KiB",
        f"{LARGEST_BODY // 1024} KiB",
        f"{local_api._LARGEST_BODY // 1024} KiB",
        f"| {connections.MOST_IDLE};",
        f"| {connections.MOST_PIPELINED} |",
        f"| {GRANTS.burst} at once, {GRANTS.per_second:g} a second |",
        f"| {event_streams.MOST_STREAMS} |",
    ):
        assert number in limits
    assert f"{event_streams.QUEUE_LENGTH} unread events" in PAGE


def test_every_error_is_listed() -> None:
    for error in OAuthError:
        assert f"| `{error}` |" in PAGE
    codes = re.findall(r'ApiFault\(\d+, "(\w+)"', Path(local_api.__file__).read_text(encoding="utf-8"))
    codes += re.findall(
        r'ApiFault\(\d+, "(\w+)"', Path(local_api.__file__).with_name("local_answers.py").read_text(encoding="utf-8")
    )
    assert len(set(codes)) >= 7
    for code in codes:
        assert f"| `{code}` |" in PAGE


def test_its_commands_run(broker: BrokerService, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = broker.socket.parent.parent
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        command = re.sub("^authstate ", f"{sys.executable} -m authstate.adapters.cli ", line)
        environment = clean_environment(home, **issuer.environment)
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert '"error"' not in done.stdout
