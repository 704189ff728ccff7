"""A model behind the loopback backend: what it says. model_wire.py writes it for the API that was asked.

The last message of the person says what the model does, so that many agents can run different turns at once:
    "use a tool"                    calls a tool that does not exist, and answers once it has its output
    "use the tool NAME"             calls this tool, with no arguments, and answers with its output
    "use the tool NAME with {...}"  ... with these arguments, a JSON object on one line
    "then expire"                   every access token is refused as soon as this message is answered
Any other message is echoed.
"""

import json
import re
from typing import Any, Final, NamedTuple, cast

Json = dict[str, Any]

_TOOL: Final = re.compile(r"use the tool (\w+)(?: with (\{.*\}))?")
_OUTPUT_TYPES: Final = ("function_call_output", "custom_tool_call_output")


class Turn(NamedTuple):
    """What the model does: it says a text or calls a tool."""

    text: str = ""
    tool: str = ""
    """The name of the tool. Empty: it says the text."""
    arguments: str = "{}"
    """The arguments of the tool, as JSON."""
    expires: bool = False
    """Every access token is refused once this is answered."""


def turn_for(body: Json) -> Turn:
    """Return what the model does for a request of the Responses API or of Chat Completions.

    Args:
        body: the request. Its messages are in `input` or in `messages`.
    """
    items = _items(body)
    words = _last_words(items)
    output = _tool_output(items[-1])
    if output is not None:
        said = f", the tool answered: {output}" if _TOOL.search(words) else ""
        return Turn(f"You said: {words}{said}")
    expires = "then expire" in words
    if named := _TOOL.search(words):
        return Turn(tool=named[1], arguments=_arguments(named[2]), expires=expires)
    if "use a tool" in words:
        return Turn(tool="no_such_tool", expires=expires)
    return Turn(f"You said: {words}", expires=expires)


def _arguments(text: str | None) -> str:
    try:
        json.loads(text or "")
    except ValueError:
        return "{}"
    return str(text)


def _items(body: Json) -> list[Json]:
    found: object = body.get("messages", body.get("input"))
    if isinstance(found, str):
        return [{"role": "user", "content": found}]
    return _objects(found) or [{}]


def _last_words(items: list[Json]) -> str:
    for item in reversed(items):
        if item.get("role") == "user":
            return _text(item.get("content"))
    return ""


def _tool_output(item: Json) -> str | None:
    """Return the output of a tool if the item is one, otherwise None."""
    if item.get("role") == "tool":
        return _text(item.get("content"))
    return _text(item.get("output")) if item.get("type") in _OUTPUT_TYPES else None


def _text(content: object) -> str:
    """Return the text of a content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in _objects(content))


def _objects(value: object) -> list[Json]:
    """Return the JSON objects of a list; an empty list for anything else."""
    members = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", member) for member in members if isinstance(member, dict)]
