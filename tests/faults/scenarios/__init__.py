"""The scenarios: for each `Fault` in faults/catalogue.py, a function of the same name that makes it happen.

A scenario gets a `ScenarioRun`, signs in, causes the fault and returns what it led to. Names of helpers begin with an
underscore: every other coroutine function of these modules is a scenario.
"""

from collections.abc import Awaitable, Callable, Mapping
from inspect import iscoroutinefunction

from faults.scenario_run import ScenarioResult, ScenarioRun
from faults.scenarios import clock, disk, mounts, network, other_programs, permissions, stored_login

Scenario = Callable[[ScenarioRun], Awaitable[ScenarioResult]]

SCENARIOS: Mapping[str, Scenario] = {
    name: function
    for module in (clock, disk, mounts, network, other_programs, permissions, stored_login)
    for name, function in vars(module).items()
    if iscoroutinefunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
}
"""Each scenario by the name of its fault."""
