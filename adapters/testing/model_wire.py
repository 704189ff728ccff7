"""Writes what the model of the loopback backend says, for the Responses API and for Chat Completions, streaming or not.

Only the standard library: a fast start.
"""

import json
import time
from typing import Any, NamedTuple

from authstate.adapters.testing.fake_model import Turn

Json = dict[str, Any]

_REFUSED = "the access token has expired"


class ModelAnswer(NamedTuple):
    """The answer to a request to the model, in both forms. A request with `"stream": true` gets the events."""

    whole: Json
    events: list[str]
    """Server-sent events, each as it is on the wire."""
    refusal: str
    """The event that ends a stream in the middle, because the token is refused."""


def responses_answer(turn: Turn, model: str, number: int) -> ModelAnswer:
    """Return the answer of the Responses API.

    Args:
        turn: what the model does.
        model: the name of the model that was asked.
        number: the number of the request, for the ids.
    """
    item = _response_item(turn, number)
    response: Json = {"id": f"response-{number}", "object": "response", "created_at": int(time.time()), "model": model}
    response |= {"status": "in_progress", "error": None, "incomplete_details": None, "instructions": None}
    response |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0}
    response |= {"metadata": {}, "output": [], "usage": None}
    usage: Json = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    whole = {**response, "status": "completed", "output": [item], "usage": usage}
    events: list[Json] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        *_response_item_events(turn, item),
        {"type": "response.completed", "response": whole},
    ]
    refusal = {"type": "error", "code": "token_expired", "message": _REFUSED, "param": None}
    lines = [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': place})}\n\n"
        for place, event in enumerate([*events, {**refusal, "error": {"code": "token_expired", "message": _REFUSED}}])
    ]
    return ModelAnswer(whole, lines[:-1], lines[-1])


def _response_item(turn: Turn, number: int) -> Json:
    item: Json = {"id": f"item-{number}", "status": "completed"}
    if turn.tool:
        call = {"type": "function_call", "name": turn.tool, "arguments": turn.arguments, "call_id": f"call-{number}"}
        return item | call
    return item | {"type": "message", "role": "assistant", "content": [_text_part(turn.text)]}


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _response_item_events(turn: Turn, item: Json) -> list[Json]:
    """Return the events between the beginning and the end of a response: those of its one item."""
    place = {"item_id": item["id"], "output_index": 0}
    if turn.tool:
        kind = "response.function_call_arguments"
        begun: Json = {**item, "status": "in_progress", "arguments": ""}
        parts: list[Json] = [
            {"type": f"{kind}.delta", **place, "delta": turn.arguments},
            {"type": f"{kind}.done", **place, "name": turn.tool, "arguments": turn.arguments},
        ]
    else:
        begun = {**item, "status": "in_progress", "content": []}
        place["content_index"] = 0
        parts = [
            {"type": "response.content_part.added", **place, "part": _text_part("")},
            *({"type": "response.output_text.delta", **place, "delta": word} for word in _words(turn.text)),
            {"type": "response.output_text.done", **place, "text": turn.text},
            {"type": "response.content_part.done", **place, "part": _text_part(turn.text)},
        ]
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        *parts,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def chat_answer(turn: Turn, model: str, number: int, *, with_usage: bool = True) -> ModelAnswer:
    """Return the answer of Chat Completions. The arguments are those of `responses_answer`.

    Args:
        turn, model, number: as for `responses_answer`.
        with_usage: whether the stream ends with the usage: the request asks for it in `stream_options`.
    """
    head: Json = {"id": f"chatcmpl-{number}", "created": int(time.time()), "model": model}
    usage: Json = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    message: Json = {"role": "assistant", "content": turn.text or None, "refusal": None}
    call: Json = {"id": f"call-{number}", "type": "function"}
    call["function"] = {"name": turn.tool, "arguments": turn.arguments}
    finish = "tool_calls" if turn.tool else "stop"
    if turn.tool:
        message["tool_calls"] = [call]
        deltas: list[Json] = [{"role": "assistant", "content": None}, {"tool_calls": [{"index": 0, **call}]}]
    else:
        deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in _words(turn.text))]
    choice: Json = {"index": 0, "finish_reason": finish, "logprobs": None}
    whole = {**head, "object": "chat.completion", "choices": [{**choice, "message": message}], "usage": usage}
    chunks: list[Json] = [{"choices": [{**choice, "finish_reason": None, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{**choice, "delta": {}}]})
    if with_usage:
        chunks.append({"choices": [], "usage": usage})
    events = [_data({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    refusal = _data({"error": {"code": "token_expired", "message": _REFUSED}})
    return ModelAnswer(whole, [*events, "data: [DONE]\n\n"], refusal)


def _data(event: Json) -> str:
    return f"data: {json.dumps(event)}\n\n"


def _words(text: str) -> list[str]:
    """Return the pieces in which a text is streamed."""
    return text.replace(" ", " \0").split("\0")
