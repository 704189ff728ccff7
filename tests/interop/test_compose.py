"""docs/compose: the file is valid, and the command line of each service works, down to a turn of codex.

No container is run: tests/support/compose_services.py runs each service as a process. Beside the file stand a real
PostgreSQL server, which asks for passwords, and a real codex.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW
from support.codex_turns import model_config
from support.compose_services import ComposeServices, end
from support.homes import fill
from support.paths import REPO
from support.ports import private_port
from support.postgres import PostgresServer, short_folder
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.cli.parser import parse
from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

yaml: Any = pytest.importorskip("yaml")
FOLDER = REPO / "docs" / "compose"
PAGE = (REPO / "docs" / "compose.md").read_text(encoding="utf-8")
CONTENT: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
COMMANDS = ("import", "lease", "sandbox")
"""The services that a person runs, in this order."""


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of docs/compose with its secrets, as a person makes it."""
    copy = tmp_path / "compose"
    shutil.copytree(FOLDER, copy)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "authstate").write_text(f'#!/bin/sh\nexec {" ".join(AUTHSTATE)} "$@"\n')
    (programs / "authstate").chmod(0o755)
    environment = clean_environment(tmp_path)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    for _ in range(2):  # it may be repeated
        made = subprocess.run(["sh", "prepare.sh"], cwd=copy, env=environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    return copy


@pytest.fixture
def database(folder: Path, real_parts: RealParts) -> Iterator[tuple[PostgresServer, int]]:
    """What the image of PostgreSQL does at its first start: a server with a password, and a database."""
    with short_folder() as place:
        place.chmod(0o777)
        server, port = PostgresServer(place / "s", real_parts.postgres()), private_port()
        server.create("--auth-host=scram-sha-256")
        server.configure("listen_addresses = '127.0.0.1'", f"port = {port}")
        server.start()
        try:
            socket = f"host={server.folder} port={port} user=postgres dbname"
            password = (folder / "secrets" / "postgres.password").read_text()
            run_sql(f"{socket}=postgres", f"ALTER ROLE postgres PASSWORD '{password}'", "CREATE DATABASE logins")
            yield server, port
        finally:
            server.stop("immediate")


def run_sql(url: str, *statements: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def services(
    folder: Path, database: tuple[PostgresServer, int], real_parts: RealParts, tmp_path: Path, running: ExitStack
) -> ComposeServices:
    bin_folder, port = real_parts.postgres(), database[1]
    programs = {
        "authstate": AUTHSTATE,
        "python": (sys.executable,),
        "psql": (str(bin_folder / "psql"),),
        "pg_isready": (str(bin_folder / "pg_isready"), "-p", str(port)),
        "codex": (str(real_parts.codex(NEW)),),
    }
    environment = {**clean_environment(tmp_path), "PGHOSTADDR": "127.0.0.1", "PGPORT": str(port)}
    return ComposeServices(CONTENT, folder, programs, environment, running)


def test_the_file_follows_the_specification_of_compose() -> None:
    jsonschema, known = pytest.importorskip("jsonschema"), pytest.importorskip("check_jsonschema")
    schema = json.loads((files(known) / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(CONTENT)


def test_each_authstate_command_is_valid() -> None:
    for name, service in CONTENT["services"].items():
        words = service.get("command", [""])
        if words[0] == "authstate":
            parse(words[1:])
        assert isinstance(words, list), f"{name}: a shell would read it"


def test_the_sandbox_has_no_secret_and_does_not_reach_the_database() -> None:
    sandbox = CONTENT["services"]["sandbox"]
    assert sandbox["secrets"] == ["broker-ca.pem"]
    assert [volume.partition(":")[0] for volume in sandbox["volumes"]] == ["./sandbox-home"]
    assert set(sandbox["networks"]) == {"tokens", "internet"}
    assert CONTENT["networks"]["database"] == CONTENT["networks"]["tokens"] == {"internal": True}


def test_the_page_names_every_service_and_secret_and_runs_the_commands_in_order() -> None:
    assert set(re.findall(r"^\| `([\w.-]+)` \|", PAGE, re.M)) == CONTENT["services"].keys() | CONTENT["secrets"].keys()
    assert tuple(re.findall(r"docker compose run --rm (\w+)", PAGE)) == COMMANDS
    assert all(CONTENT["services"][name]["profiles"] == ["commands"] for name in COMMANDS)


def test_the_services_work_down_to_a_turn_of_codex(
    services: ComposeServices, folder: Path, issuer: LoopbackIssuer
) -> None:
    kept = [file.read_text() for file in (folder / "secrets").iterdir() if file.suffix != ".pem"]
    secrets = {word for text in kept for word in re.findall(r"[\w+/=]{40,}", text)}
    shutil.rmtree(folder / "login-home")
    fill(folder / "login-home", issuer, email="person@example.com", account_id="org-person")
    login = json.loads((folder / "login-home" / "auth.json").read_text())["tokens"]
    brokers = []
    assert services.order("sandbox") == ["postgres", "role", "init", "broker-1", "broker-2", "sandbox"]
    assert services.is_healthy("postgres")
    for name in services.order("sandbox")[1:-1]:
        if services.services[name].get("healthcheck"):
            brokers.append(services.start(name, **issuer.environment))
            assert not any(secret in shown(brokers[-1].pid) for secret in secrets)
        else:
            services.run(name)
    services.run("role")
    services.run("init")  # `docker compose up` runs them again
    services.run("import")
    (folder / "sandbox-home" / "config.toml").write_text(model_config(issuer))  # the model of the test
    services.run("lease", **issuer.environment)
    issuer.expire_access()
    first = services.run("sandbox")
    assert issuer.stats()["refreshes_accepted"] == 1, first
    end(brokers[0])  # any broker answers any sandbox
    services.reached = "broker-2"
    issuer.expire_access()
    services.run("sandbox")
    assert (issuer.stats()["refreshes_accepted"], issuer.stats()["refreshes_refused"]) == (2, 0)

    held = json.loads((folder / "sandbox-home" / "auth.json").read_text())["tokens"]["refresh_token"]
    assert held != login["refresh_token"] and held.startswith(PREFIX)
    for file in (folder / "sandbox-home").rglob("*"):
        if file.is_file():
            content = file.read_bytes().decode(errors="replace")
            assert login["refresh_token"] not in content
            assert not any(secret in content for secret in secrets), file


def shown(pid: int) -> str:
    """The arguments and the environment of a process, as others may see them."""
    place = Path("/proc", str(pid))
    if not place.exists():
        pytest.skip("only Linux shows them")
    return (place / "cmdline").read_text() + (place / "environ").read_text()
