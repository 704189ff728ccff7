"""Each Python block of docs/testing.md is a file of tests that pass, and its tables name everything that there is."""

import inspect
import re
from collections.abc import Iterator

import pytest
from hypothesis import settings
from support.embedder_runs import WITH_ASYNCIO_AUTO, run_as_embedder
from support.paths import REPO

from authstate.adapters.testing import pytest_plugin
from authstate.testing import Faults, StoreContract, strategies

pytest_plugins = ["pytester"]

PAGE = (REPO / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
def ci_profile() -> Iterator[tuple[str, ...]]:
    """The options for hypothesis to accept a busy machine. They count for the whole process until the test ends."""
    before = settings.get_current_profile_name()
    yield ("--hypothesis-profile", "ci")
    settings.load_profile(before)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(re.findall(r"(?:def|class) ([tT]est\w+)", block)[0]))
def test_a_block_is_a_file_of_tests_that_pass(
    pytester: pytest.Pytester, block: str, ci_profile: tuple[str, ...]
) -> None:
    result = run_as_embedder(pytester, block, *WITH_ASYNCIO_AUTO, *ci_profile)
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}, outcomes
    if "StoreContract" in block:
        tests = [name for name in dir(StoreContract) if name.startswith("test_")]
        assert outcomes["passed"] == len(tests)
        assert f"pytest collects {len(tests)} tests" in PAGE


def test_the_page_names_every_fixture_strategy_and_fault() -> None:
    fixtures = {name for name in vars(pytest_plugin) if name.startswith("authstate_")} - {"authstate_issuer_process"}
    faults = {name for name, _ in inspect.getmembers(Faults, inspect.isfunction) if not name.startswith("_")}
    for name in fixtures | faults | {*strategies.__all__}:
        assert re.search(rf"`{name}[`(]", PAGE), name
