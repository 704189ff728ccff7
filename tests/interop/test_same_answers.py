"""The same trace of account requests: codex and authstate give the same answers, apart from what differences.py lists,
and all that authstate sends fits the JSON Schemas that both versions of codex print.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from interop.scenario_runs import OURS, ScenarioRuns
from interop.traces import SCENES, Scene
from support.codex_binaries import NEW, VERSIONS
from support.wire_client import Message

from authstate.adapters.conformance.differences import ANY, AUTHSTATE_MEMBERS, CODEX_MEMBERS, DIFFERENCES, listed

scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name.replace(" ", "-"))

# The same trace, the same answers


def without(outcome: list[Any], names: set[tuple[str, str]]) -> list[Any]:
    """The outcome without the members that are listed for its methods."""
    return [
        (method, _pruned(content, {name for where, name in names if where == method})) for method, content in outcome
    ]


def _pruned(content: Any, names: set[str]) -> Any:
    if isinstance(content, dict):
        return {name: _pruned(item, names) for name, item in content.items() if name not in names}
    return content


def matches(outcome: list[Any], expected: list[Any]) -> bool:
    if len(outcome) != len(expected):
        return False
    for (method, content), (wanted_method, wanted) in zip(outcome, expected, strict=True):
        if method != wanted_method or (isinstance(content, int) if wanted == ANY else content != wanted):
            return False
    return True


def compared(version: str, scene: Scene, step: str, codex: list[Any], authstate: list[Any]) -> str:
    """What is wrong with these two outcomes of a step; empty when it is as listed."""
    difference = listed(version, scene.name, step)
    if difference is None:
        verdict = "" if codex == authstate else "not the same, and not listed"
    elif codex == authstate:
        verdict = "listed as a difference, but the same now: take it off the list"
    else:
        as_listed = matches(codex, difference.codex) and matches(authstate, difference.authstate)
        verdict = "" if as_listed else "not as it is listed"
    return verdict and f"{version}, {step}: {verdict}\n  codex     {codex}\n  authstate {authstate}"


@scenes
def test_the_same_answers(scene: Scene, scenario_runs: ScenarioRuns) -> None:
    played = scenario_runs.of(scene)
    wrong = []
    for version in VERSIONS:
        only_codex = {(where, name) for number, where, name in CODEX_MEMBERS if number == version}
        only_ours = {(where, name) for number, where, name in AUTHSTATE_MEMBERS if number == version}
        for step in scene.steps:
            codex = without(played[version].outcomes[step.name], only_codex)
            authstate = without(played[OURS].outcomes[step.name], only_ours)
            wrong.append(compared(version, scene, step.name, codex, authstate))
    assert not any(wrong), "\n".join(filter(None, wrong))


def members(value: Any) -> set[str]:
    """The names of all members of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(members, value.values()))
    return set().union(*map(members, value)) if isinstance(value, list) else set()


def test_each_listed_member_is_sent_by_one_side_only(scenario_runs: ScenarioRuns) -> None:
    sent: set[tuple[str, str, str]] = set()
    for scene in SCENES:
        for program, played in scenario_runs.of(scene).items():
            pairs = [pair for outcome in played.outcomes.values() for pair in outcome]
            sent |= {(program, method, name) for method, content in pairs for name in members(content)}
    listed_members = {
        **{item: (item[0], OURS) for item in CODEX_MEMBERS},
        **{item: (OURS, item[0]) for item in AUTHSTATE_MEMBERS},
    }
    wrong = [
        item
        for item, (sender, other) in listed_members.items()
        if (sender, *item[1:]) not in sent or (other, *item[1:]) in sent
    ]
    assert not wrong, f"listed as sent by one side only, which is not so (any more): {wrong}"


def test_each_listed_difference_is_of_a_step_that_exists() -> None:
    places = {(scene.name, step.name) for scene in SCENES for step in scene.steps}
    every = [(version, place) for item in DIFFERENCES for version in item.versions for place in item.places]
    assert {place for _, place in every} <= places
    assert len(every) == len(set(every)), "listed twice"
    reasons = [difference.reason for difference in DIFFERENCES] + [*CODEX_MEMBERS.values(), *AUTHSTATE_MEMBERS.values()]
    assert all(reasons)


# The schemas

RESULTS = {
    "initialize": "InitializeResponse",
    "account/read": "GetAccountResponse",
    "account/login/start": "LoginAccountResponse",
    "account/login/cancel": "CancelLoginAccountResponse",
    "account/logout": "LogoutAccountResponse",
    "account/rateLimits/read": "GetAccountRateLimitsResponse",
    "getAuthStatus": "GetAuthStatusResponse",
}
TOLD = ("account/login/completed", "account/updated", "account/chatgptAuthTokens/refresh")
NOT_IN_SCHEMAS = {(NEW, "GetAuthStatusResponse"): "0.169.0 serves it still, and prints no schema of it"}


def schema_of(message: Message, methods: dict[Any, str]) -> str:
    """The name of the schema that a message of the server must fit."""
    if "method" in message:
        return "ServerRequest" if "id" in message else "ServerNotification"
    return "JSONRPCError" if "error" in message else RESULTS[methods[message["id"]]]


@pytest.fixture(scope="module")
def validators(schemas: dict[str, Path]) -> dict[tuple[str, str], jsonschema.Draft7Validator]:
    """A validator for each schema, by version and name."""
    files = [(version, path) for version, folder in schemas.items() for path in folder.rglob("*.json")]
    return {(version, path.stem): jsonschema.Draft7Validator(json.loads(path.read_text())) for version, path in files}


@scenes
def test_what_authstate_sends_fits_the_schemas(
    scene: Scene, validators: dict[tuple[str, str], jsonschema.Draft7Validator], scenario_runs: ScenarioRuns
) -> None:
    ours = scenario_runs.of(scene)[OURS]
    wrong = []
    for version in VERSIONS:
        for message in ours.received:
            name = schema_of(message, ours.methods)
            if (version, name) not in NOT_IN_SCHEMAS:
                faults = validators[version, name].iter_errors(message.get("result", message))
                wrong += [f"{version}, {name}: {fault.message}: {message}" for fault in faults]
    assert ours.received
    assert not wrong, "\n".join(wrong)


def test_all_kinds_of_messages_were_held_against_the_schemas(
    validators: dict[tuple[str, str], jsonschema.Draft7Validator], scenario_runs: ScenarioRuns
) -> None:
    seen = set()
    for scene in SCENES:
        ours = scenario_runs.of(scene)[OURS]
        for message in ours.received:
            seen.add(message["method"] if "method" in message else schema_of(message, ours.methods))
    assert seen == {*RESULTS.values(), "JSONRPCError", *TOLD}
    assert not set(NOT_IN_SCHEMAS) & set(validators), "there is a schema of it after all"
