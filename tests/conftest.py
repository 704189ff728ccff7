"""Markers by place and by fixture, the PostgreSQL server, and signals as a person's terminal leaves them."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.paths import TESTS
from support.postgres import PostgresServer, running_server
from support.real_parts import RealParts

pytest_plugins = ["support.table_coverage.plugin"]

FAST = (
    *("unit/engine", "unit/adapters/child", "unit/adapters/jsonrpc"),
    *(f"unit/adapters/app_server/test_account_{part}.py" for part in ("api", "logins", "of_others", "parent")),
    "unit/adapters/network/test_http_proxies.py",
    *("unit/adapters/proxy/test_routing.py", "unit/adapters/proxy/test_relay.py", "unit/adapters/logs"),
)
"""Where the fast tests are: they need no network and nothing that has to be installed."""
NOT_FAST = ("unit/engine/machines/test_auth_table_mutation.py",)
"""Files of those folders that take seconds."""

# A shell starts a job in the background with SIGINT ignored, and `nohup` ignores SIGHUP. Each program that a
# test starts would inherit that, and Python then raises no KeyboardInterrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGHUP", "SIGTERM"):
    if signal.getsignal(_number := getattr(signal, _name, signal.SIGINT)) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def real_parts() -> RealParts:
    """Installs real programs. A test that uses it, directly or through another fixture, has the marker `real_parts`."""
    return RealParts()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server. All tests of a process share it, so no test stops it."""
    with running_server(RealParts().postgres()) as server:
        yield server


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of an empty database with all tables. It is dropped afterwards: hundreds of them fill gigabytes."""
    url = await postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast`, import only the files that hold fast tests: importing the others takes longer than the tests."""
    if (
        config.option.markexpr == "fast"
        and collection_path.suffix == ".py"
        and collection_path.name.startswith("test_")
    ):
        return True if not is_fast(collection_path) else None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by where it is and by the fixtures that it uses."""
    for item in items:
        if is_fast(item.path):
            item.add_marker("fast")
        if "real_parts" in getattr(item, "fixturenames", ()):
            item.add_marker("real_parts")


def is_fast(path: Path) -> bool:
    """Whether the tests of a file are fast ones."""
    return any(path.is_relative_to(TESTS / place) for place in FAST) and path not in map(TESTS.joinpath, NOT_FAST)
