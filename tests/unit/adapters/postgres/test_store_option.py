"""`authstate broker --store` and `authstate lease --store`, as processes of a machine."""

import base64
import json
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from support.database_brokers import store
from support.wire_client import AUTHSTATE, clean_environment

from authstate import EncryptionKeys, PostgresDatabase
from authstate.adapters.cli.parser import parse
from authstate.adapters.cli.store_option import notifications
from authstate.testing import make_tokens

TOKENS = make_tokens()


class Commands:
    """The commands of a machine that has no login of its own."""

    def __init__(self, url: str, folder: Path, keys: Path) -> None:
        self.keys = keys
        self.store = ("--store", url, "--keys", str(keys))
        self.environment = clean_environment(folder)

    def run(self, *words: str, store: Sequence[str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [*AUTHSTATE, *words, *(self.store if store is None else store)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    @contextmanager
    def broker(self) -> Iterator[str]:
        """Run a broker. Yields its URL."""
        command = [*AUTHSTATE, "broker", *self.store, "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                assert "the broker of PostgreSQL at" in line and "serves http://127.0.0.1:" in line, line
                yield line.split("serves ")[1].strip()
            finally:
                process.terminate()
                shown = process.communicate(timeout=60)[1]
        assert process.returncode == 0, shown


@pytest.fixture
async def commands(database_url: str, keys: EncryptionKeys, tmp_path: Path) -> Commands:
    async with PostgresDatabase(database_url, keys, listens=False) as database:
        await store(database, TOKENS)
    file = tmp_path / "keys"
    file.write_text("first=" + base64.b64encode(bytes(range(32))).decode())
    file.chmod(0o600)
    home = tmp_path / "home"
    home.mkdir()
    return Commands(database_url, home, file)


def ask(url: str, handle: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": handle}
    return httpx.post(f"{url}/oauth/token", data=form, timeout=60)


def until_refused(url: str, handle: str) -> httpx.Response:
    """Ask until a lease yields nothing any more, for a minute at most. No broker tells its clients when that is."""
    gives_up_at = monotonic() + 60
    while (answer := ask(url, handle)).status_code == 200:
        assert monotonic() < gives_up_at, "the lease goes on"
        sleep(0.1)
    return answer


def test_two_brokers_serve_a_lease_until_it_is_ended(commands: Commands) -> None:
    with ExitStack() as stack:
        urls = [stack.enter_context(commands.broker()) for _ in range(2)]
        named = ("--broker-url", urls[0])
        made = commands.run("--account", "alice", "lease", "new", "--label", "ci", "--json", *named)
        assert made.returncode == 0, made.stderr
        lease, handle = json.loads(made.stdout)["lease"], json.loads(made.stdout)["handle"]
        assert (lease["account"], lease["label"]) == ({"id": "alice", "name": "alice"}, "ci")
        for url in urls:
            assert ask(url, handle).json()["access_token"] == TOKENS.access_token.reveal()
            health = httpx.get(f"{url}/healthz", timeout=60)
            assert (health.status_code, health.json()["status"]) == (200, "ok")
        listed = commands.run("--account", "alice", "lease", "list")
        assert listed.stdout.startswith(f"{lease['id']}  alice  until ")
        ended = commands.run("lease", "end", lease["id"])
        assert ended.stdout == f"The lease {lease['id']} is over.\n", ended.stderr
        for url in urls:  # at once if the broker hears of it, and within some seconds if not
            assert "was ended" in until_refused(url, handle).json()["error_description"]
    assert handle not in listed.stdout + ended.stdout


def test_the_command_that_is_told_ends_the_lease(commands: Commands, tmp_path: Path) -> None:
    box = ("--into", str(tmp_path / "box"), "--broker-url", "http://127.0.0.1:1")
    made = commands.run("--account", "alice", "lease", "new", *box)
    [told] = [line for line in made.stdout.splitlines() if line.startswith("  end    ")]
    words = shlex.split(told.removeprefix("  end    authstate "))
    ended = commands.run(*words, store=())
    assert ended.stdout == f"The lease {words[2]} is over.\n", ended.stderr


def test_a_refused_role_is_told_in_one_line(commands: Commands) -> None:
    as_nobody = ("--store", commands.store[1].replace("user=postgres", "user=nobody_at_all"), *commands.store[2:])
    refused = commands.run("--account", "alice", "lease", "list", store=as_nobody)
    assert refused.returncode == 4
    [line] = refused.stderr.splitlines()
    assert "the server does not accept this role" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lease list",), "name an account"),
        (("lease end", "--all"), "name an account"),
        (("lease new", "--json"), "--broker-url"),
        (("broker", "adopt"), "adopt and release move the login of a home"),
    ],
)
def test_what_needs_a_home_or_an_account_is_refused(commands: Commands, words: tuple[str, ...], said: str) -> None:
    refused = commands.run(*words[0].split(), *commands.store, *words[1:], store=())
    assert refused.returncode != 0 and said in refused.stderr


def test_a_store_that_cannot_be_used_is_explained(commands: Commands, tmp_path: Path, database_url: str) -> None:
    url = commands.store[1]
    with_password = ("--store", "postgresql://app:hunter2@127.0.0.1/logins", "--keys", str(commands.keys))
    wrong = tmp_path / "wrong"
    wrong.write_text("first=" + base64.b64encode(b"x" * 32).decode())
    wrong.chmod(0o600)
    for options, said in (
        (with_password, "contains a password"),
        (("--store", url), "AUTHSTATE_DATABASE_KEYS"),
        (("--store", url, "--keys", str(tmp_path / "none")), "cannot be read"),
        (("--store", url, "--keys", str(wrong)), "is not the key that"),
        (("--keys", str(commands.keys)), "name it with --store"),
        (("--direct-url", url), "another way to the database of --store"),
        ((*commands.store, "--direct-url", "postgresql://app:hunter2@127.0.0.1/logins"), "contains a password"),
    ):
        refused = commands.run("broker", "--listen", "127.0.0.1:0", store=options)
        assert refused.returncode != 0 and said in refused.stderr, refused.stderr
        assert "hunter2" not in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "listens", "listen_url"),
    [
        (("broker",), None, None),
        (("broker", "--pool-mode", "session"), True, None),
        (("broker", "--pool-mode", "transaction"), False, None),
        (("broker", "--pool-mode", "transaction", "--direct-url", "dbname=direct"), True, "dbname=direct"),
        (("lease", "list"), False, None),
    ],
)
def test_who_listens(words: tuple[str, ...], listens: bool | None, listen_url: str | None) -> None:
    options = parse([*words, "--store", "dbname=logins"])
    assert notifications(options) == {"listens": listens, "listen_url": listen_url}


def test_a_unit_names_the_store_and_no_secret(commands: Commands) -> None:
    pooler = ("--pool-mode", "transaction", "--direct-url", "postgresql://app@127.0.0.1/logins")
    unit = commands.run("broker", "--print-unit", "systemd", *pooler)
    assert f"--keys {commands.keys}" in unit.stdout and "--store" in unit.stdout
    assert " ".join(pooler) in unit.stdout
    secret = ("--direct-url", "postgresql://app:hunter2@127.0.0.1/logins")
    refused = commands.run("broker", "--print-unit", "systemd", *secret)
    assert refused.returncode != 0 and "contains a password" in refused.stderr and "hunter2" not in refused.stderr
    refused = commands.run("broker", "--print-unit", "systemd", store=commands.store[:2])
    assert refused.returncode != 0 and "--keys" in refused.stderr
