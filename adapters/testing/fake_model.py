"""The answers of a model behind the loopback backend: server-sent events, as a Responses API sends them.

The last message of the person says what the model does, so that many agents can run different turns at once:
    "use a tool"    calls a tool that does not exist, and answers once it has its output
    "then expire"   with a tool: every access token is refused as soon as the tool is called
Any other message is echoed.
"""

import json
from typing import Any, cast

Json = dict[str, Any]


def wants_a_tool(body: Json) -> bool:
    """Return whether the person asked for a tool that has not been used yet."""
    return "use a tool" in _last_words(body) and _items(body)[-1].get("type") != "function_call_output"


def wants_to_expire(body: Json) -> bool:
    """Return whether every access token is to be refused once this request is answered."""
    return wants_a_tool(body) and "then expire" in _last_words(body)


def answer(body: Json, number: int) -> str:
    """Return the complete stream of events for a request.

    Args:
        body: the request.
        number: the number of the request, for the ids.
    """
    item: Json = {"id": f"item-{number}", "status": "completed"}
    if wants_a_tool(body):
        item |= {"type": "function_call", "name": "no_such_tool", "arguments": "{}", "call_id": f"call-{number}"}
    else:
        text = f"You said: {_last_words(body)}"
        item |= {"type": "message", "role": "assistant"}
        item["content"] = [{"type": "output_text", "text": text, "annotations": []}]
    usage: Json = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    response = {"id": f"response-{number}", "object": "response", "output": [item], "usage": usage}
    events = (
        {"type": "response.created", "response": {"id": response["id"]}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed"}},
    )
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def _items(body: Json) -> list[Json]:
    items: object = body.get("input")
    if isinstance(items, str):
        return [{"role": "user", "content": [{"type": "input_text", "text": items}]}]
    return _objects(cast("object", items)) if isinstance(items, list) else [{}]


def _last_words(body: Json) -> str:
    for item in reversed(_items(body)):
        if item.get("role") == "user":
            return " ".join(str(part.get("text", "")) for part in _objects(item.get("content")))
    return ""


def _objects(value: object) -> list[Json]:
    """Return the JSON objects of a list; an empty list for anything else."""
    members = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", member) for member in members if isinstance(member, dict)]
