"""The relay compared with a reference: however the input is split and however slow the child is, each request runs with
the login that was requested before it, and each request is answered once.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup
from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.proxy.relay import Relay
from authstate.testing import make_external_tokens

Message = dict[str, Any]
HOME = Path("a-home-that-nothing-reads")


class SlowChild:
    """An app-server that handles input only when told to. `seen` has each request and the token it ran with."""

    def __init__(self) -> None:
        self.inbox: list[bytes] = []
        self.seen: list[tuple[str, str | None]] = []
        self.token: str | None = None
        self.relay: Relay | None = None
        self._half = b""

    def write(self, data: bytes) -> None:
        *lines, self._half = (self._half + data).split(b"\n")
        self.inbox += lines

    def work(self, most: int) -> bool:
        """Handle at most this many lines. Returns whether there were any."""
        lines, self.inbox = self.inbox[:most], self.inbox[most:]
        for line in lines:
            self._take(json.loads(line))
        return bool(lines)

    def _take(self, message: Message) -> None:
        method, params = message.get("method"), message.get("params") or {}
        if method == "account/login/start":
            self.token = params.get("accessToken") or params.get("apiKey")
            self._say({"method": "account/updated", "params": {}})
        elif method == "account/logout":
            self.token = None
        elif method is not None and method.startswith("x/"):
            self.seen.append((method, self.token))
        if "id" in message and method is not None:
            self._say({"id": message["id"], "result": {"type": params.get("type"), "from": "child"}})

    def _say(self, message: Message) -> None:
        assert self.relay is not None
        self.relay.from_child(json.dumps(message).encode() + b"\n")


class FrontEnd:
    """The front-end. It stores the messages that it receives."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._half = b""

    def write(self, data: bytes) -> None:
        *lines, self._half = (self._half + data).split(b"\n")
        self.messages += map(json.loads, lines)


class Expected:
    """The reference: the requests run one after another, and each ends at once."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.is_external = False
        self.seen: list[tuple[str, str | None]] = []
        self.answers: dict[int, Any] = {}
        self.updates = 0

    def ask(self, number: int, kind: str, token: str) -> Message:
        """Build a request and record its expected effects. Returns the request."""
        if kind == "other":
            self.seen.append((f"x/{number}", self.token))
            self.answers[number] = {"type": None, "from": "child"}
            return {"id": number, "method": f"x/{number}", "params": {}}
        if kind == "read":
            shown = None if self.token is None else "chatgpt" if self.is_external else "apiKey"
            self.answers[number] = shown
            return {"id": number, "method": "account/read"}
        if kind == "logout":
            self.token, self.is_external = None, False
            self.answers[number] = {}
            self.updates += 1
            return {"id": number, "method": "account/logout"}
        return self._log_in(number, kind, token)

    def _log_in(self, number: int, kind: str, token: str) -> Message:
        params: Message = {"type": "apiKey", "apiKey": token}
        if kind == "external":
            params = {"type": "chatgptAuthTokens", "accessToken": token, "chatgptAccountId": f"org-{number % 2}"}
        if kind == "key" and self.is_external:
            self.answers[number] = -32600
        else:
            self.token, self.is_external = token, kind == "external"
            self.answers[number] = {"type": params["type"]}
            self.updates += 1
        return {"id": number, "method": "account/login/start", "params": params}


requests = st.sampled_from(["other", "other", "other", "key", "external", "logout", "read"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(requests, min_size=1, max_size=5)),
        st.tuples(st.just("work"), st.integers(1, 4)),
        st.tuples(st.just("spin"), st.integers(1, 12)),
    ),
    max_size=14,
)


@given(steps, st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=150, deadline=None)
def test_each_request_finds_the_login_before_it(steps: list[tuple[str, Any]], cuts: list[int]) -> None:
    asyncio.run(play(steps, cuts))


async def play(steps: list[tuple[str, Any]], cuts: list[int]) -> None:
    child, front_end, expected = SlowChild(), FrontEnd(), Expected()
    config = Config(store_mode=StoreMode.EPHEMERAL)
    relay = child.relay = Relay(AccountSetup(config, Environment(home=HOME)), DeferredLog())
    relay.connect(front_end, child)
    relay.open()
    send(relay, {"id": 0, "method": "initialize", "params": {"clientInfo": {"name": "x", "version": "1"}}}, cuts)
    number = 0
    for step, what in steps:
        if step == "work":
            child.work(what)
        elif step == "spin":
            await spin(what)
        else:
            for kind in what:
                number += 1
                send(relay, expected.ask(number, kind, token_for(kind, number)), cuts)
    while await spin(60) or child.work(100):
        pass
    await relay.close()
    assert child.seen == expected.seen
    assert {one["id"]: outcome(one) for one in front_end.messages if one.get("id")} == expected.answers
    assert len([one for one in front_end.messages if one.get("id")]) == len(expected.answers)
    told = [one["method"] for one in front_end.messages if "method" in one]
    assert told.count("account/updated") == expected.updates


def send(relay: Relay, message: Message, cuts: list[int]) -> None:
    line = json.dumps(message).encode() + b"\n"
    ends = sorted({cut % len(line) for cut in cuts})
    for start, end in zip([0, *ends], [*ends, len(line)], strict=True):
        relay.from_front_end(line[start:end])


def token_for(kind: str, number: int) -> str:
    if kind != "external":
        return f"sk-{number}"
    return make_external_tokens(account_id=f"org-{number % 2}").access_token.reveal()


async def spin(times: int) -> bool:
    """Let the event loop run this many iterations. Returns False, for use in conditions."""
    for _ in range(times):
        await asyncio.sleep(0)
    return False


def outcome(answer: Message) -> Any:
    """The part of an answer that the reference predicts."""
    if "error" in answer:
        return answer["error"]["code"]
    result = answer["result"]
    if "requiresOpenaiAuth" in result:
        return result["account"] and result["account"]["type"]
    return result
