"""Runs the tests of an embedder with our pytest plugin, in this process."""

import sys
from types import ModuleType

import httpx  # noqa: F401 - the runs use it, and must find it loaded: they would load a second copy
import pytest

import authstate.adapters.httpx_auth  # noqa: F401 - the same
from authstate.adapters.testing import pytest_plugin

_NO_REWRITING = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # the modules are loaded already
WITHOUT_ASYNC = ("-p", "no:asyncio", "-p", "no:anyio")
WITH_ANYIO = ("-p", "no:asyncio")
_LOOP = ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")
WITH_ASYNCIO_AUTO = (*_LOOP, "-o", "asyncio_mode=auto")
WITH_ASYNCIO_STRICT = (*_LOOP, "-o", "asyncio_mode=strict")


class _LoadedModules:
    """Remembers what a run loaded. pytester forgets it, and the tests that follow would load a second copy."""

    def __init__(self) -> None:
        self._found: dict[str, ModuleType] = {}

    def pytest_unconfigure(self) -> None:
        self._found = dict(sys.modules)

    def keep(self) -> None:
        """Load the modules again, but for those of the run itself."""
        for name, module in self._found.items():
            if name not in ("test_it", "conftest"):
                sys.modules.setdefault(name, module)


def run_as_embedder(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """Run a file of tests.

    Args:
        pytester: the fixture of pytest.
        text: the file.
        options: more options of pytest.
    """
    pytester.makepyfile(test_it=text)
    quiet = ("-q", "-p", "no:authstate", "-p", "no:cacheprovider", *_NO_REWRITING)
    loaded = _LoadedModules()
    try:
        return pytester.runpytest_inprocess(*quiet, *options, plugins=[pytest_plugin, loaded])
    finally:
        loaded.keep()
