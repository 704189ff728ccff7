"""Where `lease new` and `broker adopt` say that the broker is, and whether one answers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adopted_home import Home
from support.health_server import HEALTH

from authstate.adapters.cli import broker_place
from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.testing import LoopbackIssuer

Captured = pytest.CaptureFixture[str]
NEW = ["lease", "new", "--json"]
ADOPT = ["broker", "adopt", "--json"]


@pytest.fixture(autouse=True)
def home(empty_home: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer) -> Home:
    """A home with a login, and no broker."""
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(broker_place, "DEFAULT_URL", "http://127.0.0.1:9")
    made = Home(empty_home, StoreMode.FILE)
    asyncio.run(made.sign_in(read_login(loopback.seed(email="person@example.com"))))
    return made


@pytest.mark.parametrize("words", [NEW, ADOPT])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "must be a URL such as https://HOST:PORT"),
        ("http://127.0.0.1:4517?a=b", "without a query"),
        ("http://127.0.0.1:4517/?", "without a query"),
        ("http://127.0.0.1:4517/#x", "without a query"),
        ("http://me:secret@127.0.0.1:4517", "and a password"),
        ("http://127.0.0.1:4517/oauth/token", "not the broker: use http://127.0.0.1:4517"),
        ("http://127.0.0.1:4517/oauth/revoke/", "not the broker: use http://127.0.0.1:4517"),
        ("http://127.0.0.1:9/path", "has a path, and no broker answers there"),
    ],
)
def test_what_is_no_url_of_a_broker(words: list[str], url: str, said: str, home: Home, capsys: Captured) -> None:
    assert main([*words, "--broker-url", url]) == ExitStatus.BAD_CONFIGURATION
    output = capsys.readouterr()
    assert said in output.err
    assert "secret" not in output.err
    assert output.out == ""
    assert not (home.folder / "authstate").exists()


def test_a_release_needs_no_broker_and_takes_no_url_of_one(home: Home, capsys: Captured) -> None:
    assert main(["broker", "release", "--broker-url", "http://127.0.0.1:4517"]) == ExitStatus.USAGE
    assert "unrecognized arguments: --broker-url" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", "/", "/auth", "/auth/state/"])
def test_a_broker_that_is_mounted_below_a_path(path: str, capsys: Captured, serve: Callable[[bytes], str]) -> None:
    url = serve(HEALTH) + path
    assert main([*NEW, "--broker-url", url]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert json.loads(output.out)["variables"]["AUTHSTATE_BROKER_URL"] == url.rstrip("/")


@pytest.mark.parametrize("options", [[], ["--broker-url", "http://127.0.0.1:9"]])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (NEW, "no broker answers now, and the lease yields nothing without one"),
        (ADOPT, "no broker answers now, and codex gets access tokens from one only"),
    ],
)
def test_without_a_broker_it_is_done_and_said(
    words: list[str], said: str, options: list[str], home: Home, capsys: Captured
) -> None:
    assert main([*words, *options]) == 0
    output = capsys.readouterr()
    assert output.err == f"authstate: {said}: {broker_place.START}\n"
    assert json.loads(output.out)["variables"]["AUTHSTATE_BROKER_URL"] == "http://127.0.0.1:9"
    assert len(home.leases.leases()) == 1
