"""A file of the administrator that gives a child its store, whatever `-c` says: codex obeys it, so wrap refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.codex_turns import model_config, thread_params
from support.real_parts import RealParts
from support.secret_service import SecretService
from support.system_folder import SystemFolder, reason_unavailable
from support.wire_client import WireClient, clean_environment
from support.wrapped import WRAP, fake_command

from authstate.adapters.child.command_line import EPHEMERAL
from authstate.adapters.stores.keyring import SERVICE, account_of_home
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
MakeSystem = Callable[..., SystemFolder]
KEY = "cli_auth_credentials_store"
MANAGED, REQUIREMENTS = "managed_config.toml", "requirements.toml"
PINNED = [
    ("0.93.0", MANAGED, "file"),
    ("0.120.0", MANAGED, "auto"),
    ("0.150.0", REQUIREMENTS, "file"),
    ("0.169.0", REQUIREMENTS, "auto"),
    ("0.171.0", MANAGED, "auto"),
    ("0.171.0", REQUIREMENTS, "file"),
]
"""Where a child opens auth.json in spite of `-c`: release, file, value. All releases obey the first file, those from
0.150.0 on the second, with both values (measured); each is tried once here."""


@pytest.fixture(scope="module")
def possible(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := reason_unavailable(tmp_path_factory.mktemp("try")):
        pytest.skip(reason)


@pytest.fixture
def make_system(possible: None, tmp_path: Path) -> MakeSystem:
    """Makes an /etc/codex with these files."""
    return lambda **files: SystemFolder(tmp_path / "system", {f"{name}.toml": text for name, text in files.items()})


@pytest.mark.parametrize(("version", "file", "mode"), PINNED)
def test_a_real_child_would_open_the_login(
    version: str,
    file: str,
    mode: str,
    real_parts: RealParts,
    make_system: MakeSystem,
    make_home: MakeHome,
    issuer: LoopbackIssuer,
) -> None:
    home = make_home(email="person@example.com")
    system = make_system(**{file.removesuffix(".toml"): f'{KEY} = "{mode}"'})
    command = [*system.prefix, str(real_parts.codex(version)), *EPHEMERAL]
    with WireClient(command, clean_environment(home, **issuer.environment)) as child:
        child.initialize()
        assert child.result("getAuthStatus", {"includeToken": False})["authMethod"] == "chatgpt"


@pytest.mark.parametrize(("file", "mode"), [(MANAGED, "file"), (REQUIREMENTS, "auto")])
def test_wrap_does_not_start_it(
    file: str, mode: str, real_parts: RealParts, make_system: MakeSystem, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    system = make_system(**{file.removesuffix(".toml"): f'{KEY} = "{mode}"'})
    environment = clean_environment(home, **issuer.environment)
    issuer.expire_access()
    stored = (home / "auth.json").read_bytes()
    command = [*system.prefix, *WRAP, str(real_parts.codex("0.171.0")), "app-server"]
    done = subprocess.run(command, env=environment, input=b"", capture_output=True, timeout=60)
    assert done.returncode == 3
    assert f"/etc/codex/{file} sets {KEY} to '{mode}'" in done.stderr.decode()
    assert done.stdout == b""
    assert (home / "auth.json").read_bytes() == stored
    assert issuer.stats()["refreshes_accepted"] == 0


@pytest.mark.parametrize("version", ["0.120.0"])
def test_releases_that_do_not_read_requirements_open_nothing(
    version: str, real_parts: RealParts, make_system: MakeSystem, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    system = make_system(requirements=f'{KEY} = "file"')
    command = [*system.prefix, str(real_parts.codex(version)), *EPHEMERAL]
    with WireClient(command, clean_environment(home, **issuer.environment)) as child:
        child.initialize()
        assert child.result("getAuthStatus", {})["authMethod"] is None


@pytest.mark.parametrize("version", ["0.93.0", "0.171.0"])
def test_a_child_in_a_home_without_a_login_works_under_such_a_file(
    version: str, real_parts: RealParts, make_system: MakeSystem, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """What the message advises."""
    codex, ours, theirs = (
        str(real_parts.codex(version)),
        make_home(email="person@example.com"),
        make_home(config=model_config(issuer)),
    )
    system = make_system(managed_config=f'{KEY} = "file"')
    command = [*system.prefix, *WRAP, "env", f"CODEX_HOME={theirs}", codex]
    with WireClient(command, clean_environment(ours, **issuer.environment)) as front:
        front.initialize()
        assert front.result("account/read", {})["account"]["email"] == "person@example.com"
        front.result("thread/start", thread_params(theirs))
    assert not (theirs / "auth.json").exists()
    assert json.loads((ours / "auth.json").read_text())["tokens"]["refresh_token"]


@pytest.mark.parametrize("version", ["0.93.0", "0.171.0"])
def test_a_child_that_opened_a_login_where_we_cannot_look_is_ended(
    version: str,
    real_parts: RealParts,
    make_system: MakeSystem,
    make_home: MakeHome,
    issuer: LoopbackIssuer,
    tmp_path: Path,
) -> None:
    """As over ssh: authstate sees no file, and the child has one."""
    codex, home = str(real_parts.codex(version)), make_home(email="person@example.com")
    system = make_system(managed_config=f'{KEY} = "file"')
    command = [*WRAP, *system.prefix, codex]
    with (tmp_path / "errors").open("wb") as errors:
        front = WireClient(command, clean_environment(home, **issuer.environment), errors=errors)
        front.initialize()
        waiting = front.start("thread/start", thread_params(home))
        with pytest.raises(TimeoutError):
            front.answer_to(waiting)
        assert front.process.wait(timeout=60) == 3
    said = (tmp_path / "errors").read_text()
    assert "opened a login of its own (chatgpt)" in said and "/etc/codex/managed_config.toml" in said
    assert (home / "auth.json").exists(), "it was not told to sign out"
    assert issuer.stats()["revocations"] == 0


def test_a_real_child_would_open_the_keyring(
    real_parts: RealParts, make_system: MakeSystem, make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    real_parts.keyring()
    codex, home = str(real_parts.codex("0.171.0")), make_home(email="person@example.com")
    folder = tmp_path / "keyring"
    folder.mkdir()
    service = SecretService(folder).start()
    try:
        environment = clean_environment(home, **issuer.environment, **service.environment)
        put = "import keyring, sys; keyring.set_password(sys.argv[1], sys.argv[2], sys.stdin.read())"
        entry = [SERVICE, account_of_home(home)]
        stored = (home / "auth.json").read_bytes()
        subprocess.run([sys.executable, "-c", put, *entry], input=stored, env=environment, check=True, timeout=60)
        (home / "auth.json").unlink()
        system = make_system(managed_config=f'{KEY} = "keyring"')
        with WireClient([*system.prefix, codex, *EPHEMERAL], environment) as child:
            child.initialize()
            assert child.result("getAuthStatus", {"includeToken": False})["authMethod"] == "chatgpt"
        command = [*system.prefix, *WRAP, codex, "app-server"]
        done = subprocess.run(command, env=environment, input=b"", capture_output=True, timeout=60)
    finally:
        service.stop()
    assert done.returncode == 3
    assert f"sets {KEY} to 'keyring'" in done.stderr.decode()


class TestFakeChild:
    """The same without a mount namespace."""

    def run(self, mode: str, home: Path, issuer: LoopbackIssuer) -> "subprocess.CompletedProcess[bytes]":
        lines = b'{"id":1,"method":"initialize","params":{"clientInfo":{"name":"x","version":"1"}}}\n'
        lines += b'{"id":2,"method":"x/token"}\n'
        command = [*WRAP, *fake_command(mode), "app-server"]
        environment = clean_environment(home, **issuer.environment)
        return subprocess.run(command, env=environment, input=lines, capture_output=True, timeout=60)

    def test_a_login_of_its_own_ends_it(self, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
        done = self.run("own-login", make_home(email="person@example.com"), issuer)
        assert done.returncode == 3
        assert b"opened a login of its own (chatgpt)" in done.stderr
        assert b'"id":2' not in done.stdout.replace(b" ", b""), "no request reaches a child that acts as somebody else"

    def test_the_key_that_it_kept_does_not(self, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
        home = make_home(auth={"auth_mode": "apikey", "OPENAI_API_KEY": "sk-kept-1"})
        done = self.run("kept-key:sk-kept-1", home, issuer)
        assert done.returncode == 0, done.stderr
        assert b'"logins": []' in done.stdout
