"""The model of the loopback backend: both APIs, streaming and not, and tokens that are refused in the middle."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from authstate.adapters.testing.fake_model import Turn, turn_for
from authstate.testing import LoopbackIssuer


@pytest.fixture
def issuer(running_issuer: LoopbackIssuer) -> LoopbackIssuer:
    running_issuer.reset()
    return running_issuer


def ask(issuer: LoopbackIssuer, api: str, token: str, **body: Any) -> tuple[int, str]:
    """Send a request to the model. Returns the status and the body. Raises IncompleteRead if the answer is cut."""
    place = urlsplit(issuer.model_url)
    connection = http.client.HTTPConnection(str(place.netloc), timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        connection.request("POST", f"{place.path}/{api}", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def events(text: str) -> list[Any]:
    """The data of each server-sent event of a body."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def message(words: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": words}]


@pytest.fixture
def token(issuer: LoopbackIssuer) -> str:
    return str(issuer.seed()["access_token"])


@pytest.mark.parametrize("given", ["hello", message("hello")], ids=["text", "messages"])
def test_the_responses_api_answers_whole(issuer: LoopbackIssuer, token: str, given: Any) -> None:
    status, text = ask(issuer, "responses", token, model="some-model", input=given)
    answer = json.loads(text)
    assert (status, answer["status"], answer["model"]) == (200, "completed", "some-model")
    assert answer["output"][0]["content"][0]["text"] == "You said: hello"


def test_the_responses_api_streams_the_same(issuer: LoopbackIssuer, token: str) -> None:
    _, text = ask(issuer, "responses", token, input="hello there", stream=True)
    found = events(text)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[0]["type"] == "response.created" and found[-1]["type"] == "response.completed"
    said = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
    assert said == ["You ", "said: ", "hello ", "there"]
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "".join(said)


def test_chat_completions_answer_whole(issuer: LoopbackIssuer, token: str) -> None:
    _, text = ask(issuer, "chat/completions", token, model="some-model", messages=message("hello"))
    answer = json.loads(text)
    assert (answer["object"], answer["model"]) == ("chat.completion", "some-model")
    assert answer["choices"][0]["message"]["content"] == "You said: hello"
    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "usage"])
def test_chat_completions_stream_the_same(issuer: LoopbackIssuer, token: str, options: Any) -> None:
    _, text = ask(issuer, "chat/completions", token, messages=message("hello there"), stream=True, **options)
    *chunks, end = events(text)
    assert end == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "You said: hello there"
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if "usage" in chunk] == ([2] if options else [])


def test_both_apis_call_the_tool_that_the_person_names(issuer: LoopbackIssuer, token: str) -> None:
    words = 'use the tool add with {"a": 1}'
    _, response = ask(issuer, "responses", token, input=words)
    call = json.loads(response)["output"][0]
    _, completion = ask(issuer, "chat/completions", token, messages=message(words))
    choice = json.loads(completion)["choices"][0]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "add", '{"a": 1}')
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert choice["finish_reason"] == "tool_calls"

    _, response = ask(issuer, "responses", token, input=words, stream=True)
    assert [event for event in events(response) if event["type"] == "response.function_call_arguments.done"]
    _, completion = ask(issuer, "chat/completions", token, messages=message(words), stream=True)
    assert events(completion)[1]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "add"


OUTPUTS = (
    {"messages": [*message("use the tool add"), {"role": "tool", "tool_call_id": "call-1", "content": "3"}]},
    {"input": [*message("use the tool add"), {"type": "function_call_output", "call_id": "call-1", "output": "3"}]},
)


@pytest.mark.parametrize("body", OUTPUTS, ids=["chat", "responses"])
def test_the_output_of_a_named_tool_is_repeated(body: Any) -> None:
    assert turn_for(body) == Turn("You said: use the tool add, the tool answered: 3")


@pytest.mark.parametrize("body", [{}, {"input": []}, {"input": 7}, {"messages": [3]}, {"input": [{"role": "user"}]}])
def test_a_request_without_a_message_gets_an_answer(body: Any) -> None:
    assert turn_for(body) == Turn("You said: ")


def test_arguments_that_are_no_json_are_left_out() -> None:
    assert turn_for({"input": "use the tool add with {a}"}).arguments == "{}"


@pytest.mark.parametrize("api", ["responses", "chat/completions"])
def test_a_token_is_refused_in_the_middle_of_a_stream(issuer: LoopbackIssuer, token: str, api: str) -> None:
    issuer.behave("model", mode="refuse_midway", times=1)
    body = {"input": "hello there", "messages": message("hello there"), "stream": True}
    status, text = ask(issuer, api, token, **body)
    *said, last = events(text)
    assert status == 200 and "token_expired" in json.dumps(last)
    assert said and "[DONE]" not in said and "response.completed" not in text
    assert ask(issuer, api, token, **body)[0] == 401


@pytest.mark.parametrize("mode", ["refuse_midway", "expire_after"])
def test_a_token_is_refused_in_the_middle_of_a_run(issuer: LoopbackIssuer, token: str, mode: str) -> None:
    issuer.behave("model", mode=mode, times=1)
    assert ask(issuer, "responses", token, input="hello")[0] == (200 if mode == "expire_after" else 401)
    assert ask(issuer, "responses", token, input="hello")[0] == 401


def test_the_words_of_the_person_end_a_token(issuer: LoopbackIssuer, token: str) -> None:
    assert ask(issuer, "chat/completions", token, messages=message("hello, then expire"))[0] == 200
    assert ask(issuer, "chat/completions", token, messages=message("hello"))[0] == 401


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_cut(issuer: LoopbackIssuer, token: str, stream: bool) -> None:
    issuer.behave("model", mode="cut", times=1)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(issuer, "responses", token, input="hello", stream=stream)
    assert ask(issuer, "responses", token, input="hello", stream=stream)[0] == 200, "the token is still good"


def test_a_stream_is_held_in_the_middle(issuer: LoopbackIssuer, token: str) -> None:
    issuer.hold("model", "middle", times=1)
    place = urlsplit(issuer.model_url)
    connection = http.client.HTTPConnection(str(place.netloc), timeout=60)
    body = json.dumps({"input": "hello", "stream": True})
    connection.request("POST", f"{place.path}/responses", body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert answer.readline() == b"event: response.created\n"
    issuer.expire_access()
    issuer.release("model")
    assert b"response.completed" in answer.read(), "a token that expires meanwhile ends no stream"
    connection.close()


def test_a_key_that_is_registered_is_accepted(issuer: LoopbackIssuer) -> None:
    issuer.register_token("sk-registered")
    assert ask(issuer, "responses", "sk-registered", input="hello")[0] == 200
    assert ask(issuer, "responses", "sk-other", input="hello")[0] == 401
