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

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}
SIZE = 256 * 1024  # bytes

BEGIN = """
import atexit, json, os, subprocess, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

environment = dict(os.environ)
home = environment["CODEX_HOME"]

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

def serve():
    command = [*json.loads(os.environ["AUTHSTATE_COMMAND"]), "broker", "--listen", "127.0.0.1:0"]
    broker = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    atexit.register(broker.kill)
    while " serves " not in (line := broker.stderr.readline()):
        assert line
    os.environ["CODEX_REFRESH_TOKEN_URL_OVERRIDE"] = line.partition(" serves ")[2].split()[0] + "/oauth/token"
    return broker

def stop(broker):
    broker.terminate()
    return broker.wait(), broker.stderr.read()

def tell_issuer(path, **members):
    request = urllib.request.Request(os.environ["ISSUER"] + path, json.dumps(members).encode() if members else None)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)

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
        environment |= {"CODEX_HOME": str(small), "AUTHSTATE_COMMAND": json.dumps(AUTHSTATE), "ISSUER": issuer.url}
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


BY_RUN = ("", (*AUTHSTATE, "run", "--"))
BY_SERVICE = ("broker = serve()\n", ())
BOTH = pytest.mark.parametrize(("begin", "command"), [BY_RUN, BY_SERVICE], ids=["run", "service"])


@BOTH
def test_nothing_is_spent_while_nothing_can_be_stored(
    on_small_disk: Callable[..., list[Any]], issuer: LoopbackIssuer, begin: str, command: tuple[str, ...]
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
    (status, refused), is_unchanged, (later, granted), is_new = on_small_disk(begin + script, *command)
    assert status == 503
    assert refused["error"]["code"] == "temporarily_unavailable"
    assert "no space left on device" in refused["error"]["message"].lower()
    assert is_unchanged
    assert (later, is_new) == (200, True)
    assert granted["access_token"]
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert stats["requests"]["/oauth/token"] == 1, "none was sent while the disk was full"


@BOTH
def test_new_tokens_are_stored_if_the_disk_becomes_full_while_the_issuer_is_asked(
    on_small_disk: Callable[..., list[Any]], issuer: LoopbackIssuer, begin: str, command: tuple[str, ...]
) -> None:
    """The space for them was reserved before."""
    script = """
before = stored()
with ThreadPoolExecutor() as pool:
    asked = pool.submit(ask)
    while tell_issuer("/control/stats")["refreshes_accepted"] == 0:
        assert not asked.done(), asked.result()
    fill()
    tell_issuer("/control/release", endpoint="refresh")
    print(json.dumps(asked.result()))
print(json.dumps(stored()["refresh_token"] != before["refresh_token"]))
print(json.dumps(stored()["access_token"]))
"""
    issuer.hold("refresh", "answer")
    (status, granted), is_new, access_token = on_small_disk(begin + script, *command)
    assert (status, is_new) == (200, True)
    assert granted["access_token"] == access_token
    assert (issuer.stats()["refreshes_accepted"], issuer.stats()["refreshes_refused"]) == (1, 0)


def test_a_broker_starts_on_a_full_disk_and_says_what_is_wrong(on_small_disk: Callable[..., list[Any]]) -> None:
    script = """
stop(serve())  # its lock file is there from now on
fill()
broker = serve()
print(json.dumps(ask()))
empty()
print(json.dumps(ask()))
print(json.dumps(stop(broker)))
"""
    (status, refused), (later, _), (ended, log) = on_small_disk(script)
    assert (status, later, ended) == (503, 200, 0)
    assert "free some space" in refused["error"]["message"]
    assert "no space left on device" in log
    assert "Traceback" not in log


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
