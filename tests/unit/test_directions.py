"""What passes between a front-end and its child, line by line, and who takes what does not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from authstate.adapters.jsonrpc_lines import read_line
from authstate.adapters.parent.directions import FromChild, FromFrontEnd, Greeting, with_experimental_api
from authstate.adapters.parent.failed_turns import explained
from authstate.adapters.parent.front_end import METHODS, REFUSED, RETIRED

INITIALIZE = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "x", "version": "1"}}}


class Between:
    """Both directions, without any bytes of the world."""

    def __init__(self) -> None:
        self.to_child: list[Any] = []
        self.to_front_end: list[Any] = []
        self.crowds = 0
        self.changes = 0
        self.why: str | None = None
        self.heard: list[object] = []
        self.of_front_end: list[Any] = []
        self.of_child: list[Any] = []
        greeting = Greeting(self)
        self.down = FromFrontEnd(self, greeting, "asks-f-", into(self.to_child), self._crowd).sieve
        up = FromChild(into(self.of_child), greeting, "asks-c-", into(self.to_front_end), lambda: self.why, self._crowd)
        self.up = up.sieve

    def ask(self, line: bytes) -> None:
        self.of_front_end.append(json.loads(line))

    answer = ask

    def change(self, line: bytes) -> None:
        self.changes += 1
        self.ask(line)

    def knocked(self, params: Raw) -> None:
        self.heard.append(json.loads(bytes(params)))

    def answered(self, accepted: bool) -> None:
        self.heard.append(accepted)

    def greet(self) -> "Between":
        self.down.feed(line(INITIALIZE))
        self.up.feed(line({"id": 1, "result": {}}))
        self.to_child.clear()
        self.to_front_end.clear()
        return self

    def _crowd(self) -> None:
        self.crowds += 1


def into(messages: list[Any]) -> Callable[[bytes], None]:
    return lambda data: messages.extend(json.loads(one) for one in data.splitlines())


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


@pytest.mark.parametrize("method", sorted(METHODS | set(RETIRED) | set(REFUSED)))
def test_what_is_about_accounts_is_ours(method: str) -> None:
    between = Between().greet()
    request = {"id": 5, "method": method}
    between.down.feed(line(request))
    assert (between.of_front_end, between.to_child, between.crowds) == ([request], [], 1)
    assert between.changes == (method in ("account/login/start", "account/logout"))


@pytest.mark.parametrize(
    "message",
    [
        {"id": 5, "method": "thread/start"},
        {"id": 5, "method": "account/usage/read"},
        {"id": 5, "method": "account/readX"},
        {"method": "initialized"},
        {"id": 0, "result": {"decision": "accept"}},
        {"id": "asks-c-0", "result": {}},
        {"id": "asks-f", "error": {}},
        ["account/read"],
        {"id": 2, "method": "initialize", "params": {}},
    ],
)
def test_what_is_not_goes_to_the_child(message: Any) -> None:
    between = Between().greet()
    between.down.feed(line(message))
    assert (between.of_front_end, between.to_child) == ([], [message])


@pytest.mark.parametrize("written", [rb"account\/logout", rb"acc\u006funt/logout", rb"account\u002flogout"])
def test_a_method_that_is_written_with_escapes_is_the_same(written: bytes) -> None:
    between = Between().greet()
    padding = b'"text":"' + b"x" * 3000 + b'"'
    line = b'{"method":"' + written + b'","id":5,"params":{' + padding + b"}}\n"
    for start in range(0, len(line), 1100):
        between.down.feed(line[start : start + 1100])
    assert (between.changes, between.to_child) == (1, [])
    between.up.feed(b'{"method":"' + written.replace(b"logout", b"updated") + b'","params":{}}\n')
    assert between.to_front_end == []


def test_answers_go_to_whoever_asked() -> None:
    between = Between().greet()
    between.down.feed(line({"id": "asks-f-3", "result": 1}))
    between.up.feed(line({"id": "asks-c-3", "error": {}}) + line({"id": "asks-f-3", "result": 2}))
    assert between.of_front_end == [{"id": "asks-f-3", "result": 1}]
    assert between.of_child == [{"id": "asks-c-3", "error": {}}]
    assert between.to_front_end == [{"id": "asks-f-3", "result": 2}]


@pytest.mark.parametrize(
    "method", ["account/updated", "account/login/completed", "authStatusChange", "loginChatGptComplete"]
)
def test_what_the_child_tells_of_its_own_login_is_dropped(method: str) -> None:
    between = Between().greet()
    between.up.feed(line({"method": method, "params": {}}) + line({"method": "account/rateLimits/updated"}))
    assert between.to_front_end == [{"method": "account/rateLimits/updated"}]


def test_the_question_for_tokens_is_ours_to_answer() -> None:
    between = Between().greet()
    question = {"id": 0, "method": "account/chatgptAuthTokens/refresh", "params": {"reason": "unauthorized"}}
    between.up.feed(line(question) + line({"id": 1, "method": "item/commandExecution/requestApproval"}))
    assert between.of_child == [question]
    assert [message["id"] for message in between.to_front_end] == [1]
    assert between.crowds == 1


class TestGreeting:
    def test_the_door_hears_of_both_halves(self) -> None:
        between = Between()
        between.down.feed(line(INITIALIZE) + line({"method": "initialized"}))
        assert [one["method"] for one in between.to_child] == ["initialize", "initialized"]
        between.up.feed(line({"id": 9, "result": {}}) + line({"id": 1, "result": {"userAgent": "x"}}))
        assert between.heard == [INITIALIZE["params"], True]
        assert [one["id"] for one in between.to_front_end] == [9, 1]

    def test_one_that_is_refused_makes_room_for_another(self) -> None:
        between = Between()
        between.down.feed(line(INITIALIZE))
        between.up.feed(line({"id": 1, "error": {"code": -32600, "message": "no"}}))
        between.down.feed(line({**INITIALIZE, "id": "again"}))
        between.up.feed(line({"id": "again", "result": {}}))
        assert between.heard == [INITIALIZE["params"], False, INITIALIZE["params"], True]

    def test_an_id_that_the_child_writes_in_another_way_is_the_same(self) -> None:
        between = Between()
        between.down.feed(b'{"id": "\\u0061", "method": "initialize", "params": {}}\n')
        between.up.feed(b'{"id":"a","result":{}}\n')
        assert between.heard == [{}, True]


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
    def test_the_reason_is_put_in_its_place(self, method: str, words: str) -> None:
        between = Between().greet()
        between.why = self.WHY
        error = {"message": f"auth refresh request {words}", "codexErrorInfo": "other"}
        between.up.feed(line({"method": method, "params": {"turn": {"id": "1", "error": error}}}))
        assert between.to_front_end[0]["params"]["turn"]["error"] == {"message": self.WHY, "codexErrorInfo": "other"}

    def test_a_text_that_quotes_it_stays(self) -> None:
        quoted = line({"method": "error", "params": {"text": '{"message":"auth refresh request failed: x"}'}})
        assert explained(quoted, self.WHY) == quoted

    def test_without_a_refusal_the_childs_words_stay(self) -> None:
        between = Between().greet()
        message = {"method": "error", "params": {"error": {"message": "auth refresh request failed: timeout"}}}
        between.up.feed(line(message))
        assert between.to_front_end == [message]
