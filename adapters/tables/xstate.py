"""The tables as machines of XState 5, in JSON, for the tools that read them (https://stately.ai/docs/xstate).

XState ignores an event that no transition takes, and authstate refuses it with an error. The errors are in the `meta`
of each state. Guards and actions have the names of the table, and whoever runs the machine provides them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from authstate.adapters.tables.table_data import TableData
from authstate.engine.machines.table import Row


def xstate_files(tables: Mapping[str, TableData]) -> dict[str, str]:
    """Return the text of a file for each table, by the name of the file."""
    return {f"{name}.json": _text(xstate_config(data)) for name, data in tables.items()}


def xstate_config(data: TableData) -> dict[str, Any]:
    """Return what `createMachine` of XState 5 takes."""
    return {
        "id": data.table.name,
        "description": data.table.title,
        "initial": data.table.initial,
        "states": {state: _state(data, state) for state in data.table.states},
    }


def _state(data: TableData, state: str) -> dict[str, Any]:
    table, words = data.table, data.words
    rows = [row for row in table.rows if state in row.sources]
    refused = [trigger for trigger in table.triggers if trigger not in {row.trigger for row in rows}]
    found: dict[str, Any] = {"type": "final"} if not rows else {}
    if words is not None:
        found["description"] = words.states.get(state, "")
        limit = {"limit": words.timeouts[state]} if state in words.timeouts else {}
        found["meta"] = {"refusals": {trigger: words.refusal(state, trigger) for trigger in refused}, **limit}
    if rows:
        triggers = dict.fromkeys(row.trigger for row in rows)
        found["on"] = {trigger: [_transition(row) for row in rows if row.trigger == trigger] for trigger in triggers}
    return found


def _transition(row: Row) -> dict[str, Any]:
    found = {"target": row.target, "guard": row.guard, "actions": row.effect, "description": row.meaning}
    return {name: text for name, text in found.items() if text}


def _text(config: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode() + "\n"
