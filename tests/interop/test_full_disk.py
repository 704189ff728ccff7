"""A disk that is really full: a small file system in memory, with a home on it, in a mount namespace of bubblewrap."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}
SIZE = 256 * 1024  # bytes

BEGIN = """
import json, os, subprocess, sys, urllib.error, urllib.request

home = os.environ["CODEX_HOME"]

def fill():
    with open(os.path.join(home, "filler"), "wb", 0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError as error:
                assert error.errno == 28, error

def empty():
    os.unlink(os.path.join(home, "filler"))

def stored():
    with open(os.path.join(home, "auth.json")) as file:
        return json.load(file)["tokens"]

def ask():
    body = json.dumps({"grant_type": "refresh_token", "refresh_token": presented}).encode()
    request = urllib.request.Request(os.environ["CODEX_REFRESH_TOKEN_URL_OVERRIDE"], body)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)

def authstate(*arguments):
    done = subprocess.run([*json.loads(os.environ["AUTHSTATE_COMMAND"]), *arguments], capture_output=True, text=True)
    return done.returncode, done.stderr

presented = stored()["refresh_token"]
"""


@pytest.fixture
def on_small_disk(
    make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path, real_parts: RealParts
) -> Callable[..., list[Any]]:
    """Runs a script on a home that is alone on a small disk, and returns what it prints as JSON, a line each."""
    real_parts.bubblewrap()
    home, small = make_home(**PERSON), tmp_path / "small"
    small.mkdir()

    def run(script: str, *command: str) -> list[Any]:
        inside = f'cp -a "{home}/." "{small}/" && exec "$@"'
        mounts = ("--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--size", str(SIZE), "--tmpfs", str(small))
        environment = clean_environment(home, **issuer.environment)
        environment |= {"CODEX_HOME": str(small), "AUTHSTATE_COMMAND": json.dumps(AUTHSTATE)}
        done = subprocess.run(
            ["bwrap", *mounts, "--", "sh", "-c", inside, "sh", *command, sys.executable, "-c", BEGIN + script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_nothing_is_spent_while_nothing_can_be_stored(
    on_small_disk: Callable[..., list[Any]], issuer: LoopbackIssuer
) -> None:
    script = """
before = stored()
fill()
print(json.dumps(ask()))
print(json.dumps(stored() == before))
empty()
print(json.dumps(ask()))
print(json.dumps(stored()["refresh_token"] != before["refresh_token"]))
"""
    (status, refused), is_unchanged, (later, granted), is_new = on_small_disk(script, *AUTHSTATE, "run", "--")
    assert status == 503
    assert refused["error"]["code"] == "temporarily_unavailable"
    assert "no space left on device" in refused["error"]["message"].lower()
    assert is_unchanged
    assert (later, is_new) == (200, True)
    assert granted["access_token"]
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert stats["requests"]["/oauth/token"] == 1, "none was sent while the disk was full"


@pytest.mark.parametrize(
    "command",
    [
        ("broker", "adopt"),
        ("account", "rename", "home", "other"),
        ("lease", "new", "--json"),
        ("account", "remove", "home"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_a_command_that_cannot_write_says_so_and_works_later(
    on_small_disk: Callable[..., list[Any]], issuer: LoopbackIssuer, command: tuple[str, ...]
) -> None:
    script = f"""
assert authstate("token")[0] == 0
before = stored()
fill()
print(json.dumps(authstate(*{command!r})))
print(json.dumps(not os.path.exists(os.path.join(home, "auth.json")) or stored() == before))
empty()
print(json.dumps(authstate(*{command!r})))
"""
    (status, errors), is_unchanged, (later, second) = on_small_disk(script)
    assert is_unchanged
    if command[:2] != ("account", "remove"):  # which needs no room
        assert status != 0
        assert "no space left on device" in errors.lower()
        assert "Traceback" not in errors
    assert later == 0, second
    assert issuer.stats()["refreshes_refused"] == 0
