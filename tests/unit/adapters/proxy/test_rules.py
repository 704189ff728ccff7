"""What passes between a front-end and its child, line by line, and who takes what does not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from authstate.adapters.child.failed_turns import Explanation, FailureCause, replace_message
from authstate.adapters.jsonrpc.framing import read_line
from authstate.adapters.proxy.front_end import METHODS, REFUSED, RETIRED
from authstate.adapters.proxy.rules import FromChild, FromFrontEnd, InitializeExchange, with_experimental_api

INITIALIZE = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "x", "version": "1"}}}


class Between:
    """Both directions, without any bytes of the world."""

    def __init__(self) -> None:
        self.to_child: list[Any] = []
        self.to_front_end: list[Any] = []
        self.crowds = 0
        self.changes = 0
        self.why: Explanation | None = None
        self.causes: list[FailureCause] = []
        self.heard: list[object] = []
        self.of_front_end: list[Any] = []
        self.of_child: list[Any] = []
        initialize = InitializeExchange(self)
        self.warnings: list[str] = []
        self.refused: list[tuple[bytes, str]] = []
        down = FromFrontEnd(self, initialize, "asks-f-", into(self.to_child), self._crowd, self._warn)
        self.down = down.line_filter
        up = FromChild(
            into(self.of_child),
            initialize,
            "asks-c-",
            down,
            into(self.to_front_end),
            self._why,
            self._crowd,
            self._warn,
        )
        self.up = up.line_filter

    def ask(self, line: bytes) -> None:
        self.of_front_end.append(json.loads(line))

    def answer(self, line: bytes) -> None:
        try:
            self.ask(line)
        except ValueError:
            self.of_front_end.append(line)

    def refuse(self, id_: Raw, why: str) -> None:
        self.refused.append((bytes(id_), why))

    def _why(self, cause: FailureCause, params: Raw) -> Explanation | None:
        self.causes.append(cause)
        return self.why

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(code)

    def change(self, line: bytes) -> None:
        self.changes += 1
        self.ask(line)

    def on_initialize(self, params: Raw) -> None:
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
    assert between.to_front_end == []


@pytest.mark.parametrize("id_", [7, "7", "\u00e4", -1, 2**70])
def test_an_answer_passes_once_and_only_to_a_request_that_passed(id_: Any) -> None:
    between = Between().greet()
    answer = {"id": id_, "result": {}}
    between.up.feed(line(answer))  # before it was asked
    between.down.feed(line({"id": id_, "method": "account/login/start", "params": {"type": "chatgpt"}}))
    between.up.feed(line(answer))  # it was not asked this
    assert (between.to_front_end, between.warnings) == ([], ["answer_dropped"] * 2)
    between.down.feed(line({"id": id_, "method": "thread/start"}))
    between.up.feed(json.dumps(answer, ensure_ascii=False).encode() + b"\n" + line(answer))
    assert between.to_front_end == [answer]


def test_a_number_and_its_text_are_two_ids() -> None:
    between = Between().greet()
    between.down.feed(line({"id": 7, "method": "thread/start"}))
    between.up.feed(line({"id": "7", "result": {}}))
    assert between.to_front_end == []


def test_the_front_end_answers_only_what_it_was_asked() -> None:
    """The child's question for tokens has an id that is easy to guess, and the front-end never sees it."""
    between = Between().greet()
    tokens = {"id": 0, "result": {"accessToken": "of the front-end's choice"}}
    between.down.feed(line(tokens))
    between.up.feed(line({"id": 0, "method": "account/chatgptAuthTokens/refresh", "params": {}}))
    between.down.feed(line(tokens))
    assert (between.to_child, between.warnings) == ([], ["answer_dropped"] * 2)
    between.up.feed(line({"id": 0, "method": "item/commandExecution/requestApproval"}))
    between.down.feed(line({"id": 0, "result": {"decision": "accept"}}) + line(tokens))
    assert between.to_child == [{"id": 0, "result": {"decision": "accept"}}]


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
    between = Between().greet()
    between.down.feed(said + b"\n")
    assert (len(between.of_front_end), between.to_child, between.crowds) == (1, [], 1)


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
    between = Between().greet()
    between.down.feed(said + b"\n")
    assert ([id_ for id_, _ in between.refused], between.to_child) == ([b"7"], [])


def test_the_last_line_counts_without_a_newline() -> None:
    between = Between().greet()
    between.down.feed(b'{"id":7,"method":"account/logout"}')
    between.down.finish()
    assert (between.changes, between.to_child) == (1, [])


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
    between = Between().greet()
    passed: list[bytes] = []
    between.up._let_pass = passed.append
    between.up.feed(said + b"\n")
    assert passed == ([said + b"\n"] if passes else [])


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
        assert [one["id"] for one in between.to_front_end] == [1]

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
        between.why = Explanation(self.WHY)
        error = {"message": f"auth refresh request {words}", "codexErrorInfo": "other"}
        between.up.feed(line({"method": method, "params": {"turn": {"id": "1", "error": error}}}))
        assert between.to_front_end[0]["params"]["turn"]["error"] == {"message": self.WHY, "codexErrorInfo": "other"}

    def test_a_text_that_quotes_it_stays(self) -> None:
        quoted = line({"method": "error", "params": {"text": '{"message":"auth refresh request failed: x"}'}})
        assert replace_message(quoted, FailureCause.REFRESH_REFUSED, Explanation(self.WHY)) == quoted

    @pytest.mark.parametrize("words", ["", "Fatal error: "])
    @pytest.mark.parametrize(("needs_login", "info"), [(True, "unauthorized"), (False, "other")])
    def test_a_login_that_was_taken_is_told_of(self, words: str, needs_login: bool, info: str) -> None:
        between = Between().greet()
        between.why = Explanation(self.WHY, needs_login)
        error = {"message": f"{words}application network permission was revoked", "codexErrorInfo": "other"}
        between.up.feed(line({"method": "error", "params": {"threadId": "t", "error": error}}))
        assert between.to_front_end[0]["params"]["error"] == {"message": self.WHY, "codexErrorInfo": info}
        assert between.causes == [FailureCause.LOGIN_CHANGED]

    def test_words_of_others_about_it_stay(self) -> None:
        between = Between().greet()
        between.why = Explanation(self.WHY)
        words = "application network permission was revoked"
        told = [
            {"method": "item/completed", "params": {"message": words}},
            {"method": "turn/completed", "params": {"message": f"why does it say {words}?", "text": words}},
        ]
        for message in told:
            between.up.feed(line(message))
        assert between.to_front_end == told

    def test_without_a_refusal_the_childs_words_stay(self) -> None:
        between = Between().greet()
        message = {"method": "error", "params": {"error": {"message": "auth refresh request failed: timeout"}}}
        between.up.feed(line(message))
        assert between.to_front_end == [message]
