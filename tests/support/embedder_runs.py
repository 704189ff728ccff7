"""Runs the tests of an embedder with our pytest plugin, in this process."""

import anyio.pytest_plugin
import pytest

import authstate
from authstate.adapters import testing
from authstate.adapters.testing import pytest_plugin

WITHOUT_ASYNC = ("-p", "no:asyncio", "-p", "no:anyio")
WITH_ANYIO = ("-p", "no:asyncio")
_LOOP = ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")
WITH_ASYNCIO_AUTO = (*_LOOP, "-o", "asyncio_mode=auto")
WITH_ASYNCIO_STRICT = (*_LOOP, "-o", "asyncio_mode=strict")


def run_as_embedder(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """Run a file of tests.

    Everything that the run uses is loaded first: pytester forgets what a run loads, and others would get a second copy.

    Args:
        pytester: the fixture of pytest.
        text: the file.
        options: more options of pytest.
    """
    for package in (authstate, testing):
        assert all(getattr(package, name) is not None for name in package.__all__)
    assert anyio.pytest_plugin
    pytester.makepyfile(test_it=text)
    quiet = ("-q", "-p", "no:authstate", "-p", "no:cacheprovider")
    return pytester.runpytest_inprocess(*quiet, *options, plugins=[pytest_plugin])
