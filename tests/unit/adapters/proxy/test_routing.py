"""Which lines pass between a front-end and its child, and who takes the others."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from authstate.adapters.child.failed_turns import Explanation, FailureCause, replace_message
from authstate.adapters.jsonrpc.framing import Envelope, RpcError, read_line
from authstate.adapters.proxy.front_end import METHODS, REFUSED, RETIRED
from authstate.adapters.proxy.pending_requests import PendingRequests
from authstate.adapters.proxy.routing import (
    Exchange,
    FromChild,
    FromFrontEnd,
    InitializeExchange,
    with_experimental_api,
)

INITIALIZE = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "x", "version": "1"}}}


class Directions:
    """Both directions, without pipes. It takes what is about accounts, and observes the handshake."""

    def __init__(self) -> None:
        self.to_child: list[Any] = []
        self.to_front_end: list[Any] = []
        self.changes = 0
        self.of_front_end: list[Any] = []
        """The account requests and answers of the front-end."""
        self.of_child: list[Any] = []
        """The refresh requests and answers of the child."""
        self.refused: list[tuple[bytes, int]] = []
        self.handshake: list[object] = []
        self.warnings: list[str] = []
        self.child = ChildAccount(self.of_child)
        exchange = Exchange(InitializeExchange(self), PendingRequests(), PendingRequests(), self._warn)
        self.down = FromFrontEnd(self, "asks-f-", into(self.to_child), exchange).line_stream
        self.up = FromChild(self.child, "asks-c-", into(self.to_front_end), exchange).line_stream

    def ask(self, message: Envelope, size: int) -> None:
        assert size == len(encoded(message))
        self.of_front_end.append(decoded(message))

    def change(self, message: Envelope, size: int) -> None:
        self.changes += 1
        self.of_front_end.append(decoded(message))

    def take_answer(self, message: Envelope, size: int) -> None:
        self.ask(message, size)

    def refuse(self, id_: Raw, error: RpcError) -> None:
        self.refused.append((bytes(id_), error.code))

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(code)

    def on_initialize(self, params: Raw) -> None:
        self.handshake.append(json.loads(bytes(params)))

    def on_initialize_answered(self, is_accepted: bool) -> None:
        self.handshake.append(is_accepted)

    def initialize(self) -> "Directions":
        self.down.feed(line(INITIALIZE))
        self.up.feed(line({"id": 1, "result": {}}))
        self.to_child.clear()
        self.to_front_end.clear()
        return self


class ChildAccount:
    """Takes what the child sends about its login."""

    def __init__(self, taken: list[Any]) -> None:
        self.taken = taken
        self.explanation: Explanation | None = None
        self.causes: list[FailureCause] = []
        self.turns: list[str] = []

    def on_request(self, message: Envelope, size: int) -> None:
        self.taken.append(decoded(message))

    take_answer = on_request

    def on_turn(self, method: str, params: Raw) -> None:
        self.turns.append(method)

    def explain_failure(self, cause: FailureCause, params: Raw) -> Explanation | None:
        self.causes.append(cause)
        return self.explanation


MEMBERS = ("id", "method", "params", "result", "error")


def decoded(message: Envelope) -> Any:
    """What a message says."""
    members = {name: getattr(message, name) for name in MEMBERS}
    return {
        name: value if isinstance(value, str) else json.loads(bytes(value))
        for name, value in members.items()
        if value is not None and bytes(value if isinstance(value, Raw) else b"x")
    }


def encoded(message: Envelope) -> bytes:
    """The line of a message, as `line` writes it, without its newline."""
    return line(decoded(message))[:-1]


def into(messages: list[Any]) -> Callable[[bytes], None]:
    return lambda data: messages.extend(json.loads(one) for one in data.splitlines())


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


@pytest.mark.parametrize("method", sorted(METHODS | set(RETIRED) | set(REFUSED)))
def test_the_engine_takes_what_is_about_accounts(method: str) -> None:
    directions = Directions().initialize()
    request = {"id": 5, "method": method}
    directions.down.feed(line(request))
    assert (directions.of_front_end, directions.to_child, directions.refused) == ([request], [], [])
    assert directions.changes == (method in ("account/login/start", "account/logout"))


@pytest.mark.parametrize(
    "message",
    [
        {"id": 5, "method": "thread/start"},
        {"id": 5, "method": "account/usage/read"},
        {"id": 5, "method": "account/readX"},
        {"method": "initialized"},
        {"id": 2, "method": "initialize", "params": {}},
    ],
)
def test_what_is_not_goes_to_the_child(message: Any) -> None:
    directions = Directions().initialize()
    directions.down.feed(line(message))
    assert (directions.of_front_end, directions.to_child) == ([], [message])


@pytest.mark.parametrize("written", [rb"account\/logout", rb"acc\u006funt/logout", rb"account\u002flogout"])
def test_a_method_that_is_written_with_escapes_is_the_same(written: bytes) -> None:
    directions = Directions().initialize()
    padding = b'"text":"' + b"x" * 3000 + b'"'
    line = b'{"method":"' + written + b'","id":5,"params":{' + padding + b"}}\n"
    for start in range(0, len(line), 1100):
        directions.down.feed(line[start : start + 1100])
    assert (directions.changes, directions.to_child) == (1, [])
    directions.up.feed(b'{"method":"' + written.replace(b"logout", b"updated") + b'","params":{}}\n')
    assert directions.to_front_end == []


def test_answers_go_to_who_sent_the_request() -> None:
    directions = Directions().initialize()
    directions.down.feed(line({"id": "asks-f-3", "result": 1}))
    directions.up.feed(line({"id": "asks-c-3", "error": {}}) + line({"id": "asks-f-3", "result": 2}))
    assert directions.of_front_end == [{"id": "asks-f-3", "result": 1}]
    assert directions.of_child == [{"id": "asks-c-3", "error": {}}]
    assert directions.to_front_end == []


@pytest.mark.parametrize("id_", [7, "7", "\u00e4", -1, 2**70])
def test_an_answer_passes_once_and_only_to_a_request_that_passed(id_: Any) -> None:
    directions = Directions().initialize()
    answer = {"id": id_, "result": {}}
    directions.up.feed(line(answer))  # before it was asked
    directions.down.feed(line({"id": id_, "method": "account/login/start", "params": {"type": "chatgpt"}}))
    directions.up.feed(line(answer))  # it was not asked this
    assert (directions.to_front_end, directions.warnings) == ([], ["answer_dropped"] * 2)
    directions.down.feed(line({"id": id_, "method": "thread/start"}))
    directions.up.feed(json.dumps(answer, ensure_ascii=False).encode() + b"\n" + line(answer))
    assert directions.to_front_end == [answer]


def test_a_number_and_its_text_are_two_ids() -> None:
    directions = Directions().initialize()
    directions.down.feed(line({"id": 7, "method": "thread/start"}))
    directions.up.feed(line({"id": "7", "result": {}}))
    assert directions.to_front_end == []


def test_the_front_end_answers_only_requests_that_it_got() -> None:
    """The child's refresh request has an id that is easy to guess, and the front-end never sees it."""
    directions = Directions().initialize()
    tokens = {"id": 0, "result": {"accessToken": "of the front-end's choice"}}
    directions.down.feed(line(tokens))
    directions.up.feed(line({"id": 0, "method": "account/chatgptAuthTokens/refresh", "params": {}}))
    directions.down.feed(line(tokens))
    assert (directions.to_child, directions.warnings) == ([], ["answer_dropped"] * 2)
    directions.up.feed(line({"id": 0, "method": "item/commandExecution/requestApproval"}))
    directions.down.feed(line({"id": 0, "result": {"decision": "accept"}}) + line(tokens))
    assert directions.to_child == [{"id": 0, "result": {"decision": "accept"}}]


@pytest.mark.parametrize(
    "said",
    [
        b'[7,"account/logout",null]',
        b'[7,"account/login/start",{"type":"apiKey","apiKey":"x"}]',
        b'[0,{"accessToken":"x"}]',
        b'[7,"thread/start",{}]',
        b'\xef\xbb\xbf{"id":7,"method":"account/logout"}',
        b'{"id":7,"method":"account/logout"} {"id":8,"method":"thread/start"}',
        b'{"id":7,"method":"account/logout",}',
        b'{"id":7,"method":"account/logout","params":"\xff"}',
        b'{"id":7,"method":["account/logout"]}',
        b'\x00{"id":7,"method":"account/logout"}',
        b"account/logout",
    ],
)
def test_a_line_that_is_no_message_is_refused_and_does_not_reach_the_child(said: bytes) -> None:
    directions = Directions().initialize()
    directions.down.feed(said + b"\n")
    ((id_, code),) = directions.refused
    assert (id_, directions.of_front_end, directions.to_child) == (b"", [], [])
    assert code in (-32700, -32600)


@pytest.mark.parametrize(
    "said",
    [
        b'{"id":7,"method":"account/logout","method":"thread/start"}',
        b'{"id":7,"method":"thread/start","method":"account/logout"}',
        b'{"id":7,"method":"thread/start","m\\u0065thod":"account/logout"}',
        b'{"id":7,"result":{},"result":{},"method":"thread/start","method":"x"}',
    ],
)
def test_a_line_that_two_readers_read_in_two_ways_is_refused(said: bytes) -> None:
    directions = Directions().initialize()
    directions.down.feed(said + b"\n")
    assert (directions.refused, directions.to_child) == ([(b"7", -32600)], [])


def test_of_two_ids_neither_is_answered() -> None:
    """Nobody knows which of them the front-end waits for."""
    directions = Directions().initialize()
    directions.down.feed(b'{"id":2,"method":"thread/list","id":3}\n')
    assert (directions.refused, directions.to_child) == ([(b"", -32600)], [])


def test_an_answer_of_the_child_with_two_ids_does_not_pass() -> None:
    directions = Directions().initialize()
    for number in (2, 3):
        directions.down.feed(line({"id": number, "method": "thread/list"}))
    directions.up.feed(b'{"id":2,"id":3,"result":{}}\n')
    assert (directions.to_front_end[1:], directions.warnings) == ([], ["line_dropped"])


def test_the_last_line_counts_without_a_newline() -> None:
    directions = Directions().initialize()
    directions.down.feed(b'{"id":7,"method":"account/logout"}')
    directions.down.finish()
    assert (directions.changes, directions.to_child) == (1, [])


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        (b"a banner", True),
        (b"", True),
        (b'{"method":"account/updated","params":{}', False),
        (b'["account/updated",{}]', False),
        (b'{"method":"acc\\u006funt/updated",}', False),
        (b'{"method":"thread/started","method":"account/updated"}', False),
        (b'{"method":"account/updated","method":"thread/started"}', False),
        (b'{"method":"account/chatgptAuthTokens/refresh"}', False),
    ],
)
def test_what_of_the_child_may_be_about_accounts_does_not_reach_the_front_end(said: bytes, passes: bool) -> None:
    directions = Directions().initialize()
    passed: list[bytes] = []
    directions.up._let_pass = passed.append
    directions.up.feed(said + b"\n")
    assert passed == ([said + b"\n"] if passes else [])


@pytest.mark.parametrize(
    "method", ["account/updated", "account/login/completed", "authStatusChange", "loginChatGptComplete"]
)
def test_notifications_about_the_childs_login_are_dropped(method: str) -> None:
    directions = Directions().initialize()
    directions.up.feed(line({"method": method, "params": {}}) + line({"method": "account/rateLimits/updated"}))
    assert directions.to_front_end == [{"method": "account/rateLimits/updated"}]


def test_the_engine_answers_a_refresh_request() -> None:
    directions = Directions().initialize()
    request = {"id": 0, "method": "account/chatgptAuthTokens/refresh", "params": {"reason": "unauthorized"}}
    directions.up.feed(line(request) + line({"id": 1, "method": "item/commandExecution/requestApproval"}))
    assert directions.of_child == [request]
    assert [message["id"] for message in directions.to_front_end] == [1]


class TestInitialize:
    def test_the_observer_is_called_for_the_request_and_the_answer(self) -> None:
        directions = Directions()
        directions.down.feed(line(INITIALIZE) + line({"method": "initialized"}))
        assert [one["method"] for one in directions.to_child] == ["initialize", "initialized"]
        directions.up.feed(line({"id": 9, "result": {}}) + line({"id": 1, "result": {"userAgent": "x"}}))
        assert directions.handshake == [INITIALIZE["params"], True]
        assert [one["id"] for one in directions.to_front_end] == [1]

    def test_one_that_is_refused_may_be_tried_again(self) -> None:
        directions = Directions()
        directions.down.feed(line(INITIALIZE))
        directions.up.feed(line({"id": 1, "error": {"code": -32600, "message": "no"}}))
        directions.down.feed(line({**INITIALIZE, "id": "again"}))
        directions.up.feed(line({"id": "again", "result": {}}))
        assert directions.handshake == [INITIALIZE["params"], False, INITIALIZE["params"], True]

    def test_an_id_that_the_child_writes_in_another_way_is_the_same(self) -> None:
        directions = Directions()
        directions.down.feed(b'{"id": "\\u0061", "method": "initialize", "params": {}}\n')
        directions.up.feed(b'{"id":"a","result":{}}\n')
        assert directions.handshake == [{}, True]


class TestExperimentalApi:
    def said(self, message: Any) -> Any:
        data = line(message)
        return json.loads(with_experimental_api(data, read_line(data)))

    @pytest.mark.parametrize("capabilities", [None, {}, {"experimentalApi": False}, {"other": [1]}])
    def test_it_is_put_in(self, capabilities: Any) -> None:
        message = {**INITIALIZE, "params": {"clientInfo": {"name": "ü"}, "capabilities": capabilities, "later": 1}}
        told = self.said(message)
        assert told["params"] == {
            "clientInfo": {"name": "ü"},
            "later": 1,
            "capabilities": {**(capabilities or {}), "experimentalApi": True},
        }
        assert (told["id"], told["method"]) == (1, "initialize")

    def test_a_line_that_has_it_stays_as_it_is(self) -> None:
        data = b' {"id" : 1, "method":"initialize","params":{"capabilities":{"experimentalApi":true}}}\r\n'
        assert with_experimental_api(data, read_line(data)) is data

    @pytest.mark.parametrize("params", [7, [], {"capabilities": 7}, None])
    def test_what_the_child_will_refuse_stays_as_it_is(self, params: Any) -> None:
        data = line({**INITIALIZE, "params": params})
        assert with_experimental_api(data, read_line(data)) is data


class TestFailedTurns:
    WHY = 'Your sign-in was revoked: "sign in again" \\ now'

    @pytest.mark.parametrize("words", ["failed: code=-32603", "canceled: channel closed"])
    @pytest.mark.parametrize("method", ["error", "turn/completed", "codex/event/error"])
    def test_the_reason_replaces_the_message(self, method: str, words: str) -> None:
        directions = Directions().initialize()
        directions.child.explanation = Explanation(self.WHY)
        error = {"message": f"auth refresh request {words}", "codexErrorInfo": "other"}
        directions.up.feed(line({"method": method, "params": {"turn": {"id": "1", "error": error}}}))
        assert directions.to_front_end[0]["params"]["turn"]["error"] == {"message": self.WHY, "codexErrorInfo": "other"}

    def test_a_text_that_quotes_it_stays(self) -> None:
        quoted = line({"method": "error", "params": {"text": '{"message":"auth refresh request failed: x"}'}})
        assert replace_message(quoted, FailureCause.REFRESH_REFUSED, Explanation(self.WHY)) == quoted

    @pytest.mark.parametrize("words", ["", "Fatal error: "])
    @pytest.mark.parametrize(("needs_login", "info"), [(True, "unauthorized"), (False, "other")])
    def test_a_login_that_was_removed_is_explained(self, words: str, needs_login: bool, info: str) -> None:
        directions = Directions().initialize()
        directions.child.explanation = Explanation(self.WHY, needs_login)
        error = {"message": f"{words}application network permission was revoked", "codexErrorInfo": "other"}
        directions.up.feed(line({"method": "error", "params": {"threadId": "t", "error": error}}))
        assert directions.to_front_end[0]["params"]["error"] == {"message": self.WHY, "codexErrorInfo": info}
        assert directions.child.causes == [FailureCause.LOGIN_CHANGED]

    def test_the_same_words_elsewhere_stay(self) -> None:
        directions = Directions().initialize()
        directions.child.explanation = Explanation(self.WHY)
        words = "application network permission was revoked"
        told = [
            {"method": "item/completed", "params": {"message": words}},
            {"method": "turn/completed", "params": {"message": f"why does it say {words}?", "text": words}},
        ]
        for message in told:
            directions.up.feed(line(message))
        assert directions.to_front_end == told

    def test_without_an_explanation_the_message_stays(self) -> None:
        directions = Directions().initialize()
        message = {"method": "error", "params": {"error": {"message": "auth refresh request failed: timeout"}}}
        directions.up.feed(line(message))
        assert directions.to_front_end == [message]
