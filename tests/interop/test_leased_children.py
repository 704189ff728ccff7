"""Unmodified codex processes whose auth.json holds a lease: they work, and never have a refresh token."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.brokers import PATIENT_AUTHSTATE, RunningBroker, refuse_access
from support.codex_binaries import NEW, OLD
from support.codex_children import Child, memory_of
from support.codex_turns import model_config
from support.homes import fill
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.config import StoreMode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.adoption import Adoption
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import LeaseRequest
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
RELEASES = (OLD, NEW, "newest")
ROUNDS = 3


def book_of(home: Path) -> LeaseBook:
    return LeaseBook(Vault(home, StoreMode.FILE).folder)


async def adopt(home: Path) -> None:
    vault = Vault(home, StoreMode.FILE)
    assert await Adoption(vault, book_of(home)).adopt() is not None


async def lease_into(folder: Path, home: Path, issuer: LoopbackIssuer, ttl: float | None = None) -> str:
    """Make a home with a lease on the login of another one. Returns the id of the lease."""
    tokens = await Vault(home, StoreMode.FILE).store("home").load()
    assert isinstance(tokens, ChatgptTokens)
    lease, handle = book_of(home).make(LeaseRequest("home", tokens.account, ttl))
    fill(folder, issuer, config=model_config(issuer))
    async with AuthJsonStore(folder).locked() as held:
        await held.save(leased(tokens, handle.secret.reveal()))
    return lease.id


def refresh_token_in(home: Path) -> str:
    token: str = json.loads((home / "auth.json").read_text())["tokens"]["refresh_token"]
    return token


def run(command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        env=environment,
        cwd=environment["CODEX_HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(params=RELEASES)
def codex(request: pytest.FixtureRequest, real_parts: RealParts) -> Path:
    """One codex binary. The newest release is tested as well."""
    return real_parts.codex(request.param)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_leased_children_share_one_refresh_and_have_no_refresh_token(
    real_parts: RealParts, make_home: MakeHome, tmp_path: Path, issuer: LoopbackIssuer, running: ExitStack
) -> None:
    """Children of each release, on one adopted home and on homes of their own."""
    home = make_home(config=model_config(issuer), **PERSON)
    refresh_tokens = [refresh_token_in(home)]
    await adopt(home)
    homes = [home] * len(RELEASES)
    for release in RELEASES:
        homes.append(tmp_path / f"sandbox-{release}")
        await lease_into(homes[-1], home, issuer)
    broker = running.enter_context(RunningBroker(home, issuer, PATIENT_AUTHSTATE))
    children = [
        Child([str(real_parts.codex(release))], place, broker.environment, running)
        for place, release in zip(homes, 2 * RELEASES, strict=True)
    ]
    vault = home / "authstate" / "accounts" / "home"
    for number in range(1, ROUNDS + 1):
        refuse_access(issuer, home)
        assert [child.turn() for child in children] == ["completed"] * len(children)
        stats = issuer.stats()
        assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (number, 0)
        refresh_tokens.append(refresh_token_in(vault))
    assert len(set(refresh_tokens)) == ROUNDS + 1
    for place in homes:
        assert refresh_token_in(place).startswith(PREFIX)
        for file in place.rglob("*"):
            if file.is_file() and "accounts" not in file.parts:
                assert not any(token.encode() in file.read_bytes() for token in refresh_tokens), file
    for child in children:
        pid = child.client.process.pid
        assert not any(token.encode() in Path(f"/proc/{pid}/environ").read_bytes() for token in refresh_tokens)
        try:
            memory = memory_of(pid)
        except PermissionError:
            continue
        assert PREFIX.encode() in memory
        assert not any(token.encode() in memory for token in refresh_tokens)


async def test_an_ended_lease_yields_nothing_and_codex_says_to_sign_in(
    codex: Path, make_home: MakeHome, tmp_path: Path, issuer: LoopbackIssuer, running: ExitStack
) -> None:
    home = make_home(**PERSON)
    sandbox = tmp_path / "sandbox"
    lease = await lease_into(sandbox, home, issuer)
    broker = running.enter_context(RunningBroker(home, issuer))
    book_of(home).end(lease)
    issuer.expire_access()
    environment = clean_environment(sandbox, **broker.environment)
    done = run([str(codex), "exec", "--skip-git-repo-check", "hi"], environment)
    assert done.returncode == 1
    assert "Please log out and sign in again" in done.stderr
    assert issuer.stats()["refreshes_accepted"] == 0
    assert os.path.exists(sandbox / "auth.json")


@pytest.mark.parametrize("release", [NEW, "newest"])
async def test_signing_out_with_codex_in_a_sandbox_ends_its_lease_and_nothing_else(
    release: str,
    real_parts: RealParts,
    make_home: MakeHome,
    tmp_path: Path,
    issuer: LoopbackIssuer,
    running: ExitStack,
) -> None:
    """0.93.0 tells nobody that somebody signed out."""
    home = make_home(**PERSON)
    sandbox = tmp_path / "sandbox"
    await lease_into(sandbox, home, issuer)
    broker = running.enter_context(RunningBroker(home, issuer))
    environment = clean_environment(sandbox, **broker.environment)
    assert run([str(real_parts.codex(release)), "logout"], environment).returncode == 0
    assert [lease.state for lease in book_of(home).leases()] == ["ended"]
    assert not (sandbox / "auth.json").exists()
    assert not refresh_token_in(home).startswith(PREFIX)
    assert issuer.stats()["revocations"] == 0


@pytest.mark.parametrize("release", [NEW, "newest"])
async def test_signing_out_with_codex_in_an_adopted_home_signs_the_account_out(
    release: str, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer, running: ExitStack
) -> None:
    home = make_home(**PERSON)
    await adopt(home)
    broker = running.enter_context(RunningBroker(home, issuer))
    environment = clean_environment(home, **broker.environment)
    assert run([str(real_parts.codex(release)), "logout"], environment).returncode == 0
    assert [lease.state for lease in book_of(home).leases()] == ["ended"]
    assert not (home / "auth.json").exists()
    assert not (home / "authstate" / "accounts" / "home" / "auth.json").exists()
    running.close()  # the revocation runs in the background until the broker ends
    assert issuer.stats()["revocations"] == 1


async def test_run_in_a_sandbox_leaves_the_command_to_the_broker_of_its_lease(
    make_home: MakeHome, tmp_path: Path, issuer: LoopbackIssuer, running: ExitStack
) -> None:
    home = make_home(**PERSON)
    sandbox = tmp_path / "sandbox"
    await lease_into(sandbox, home, issuer)
    broker = running.enter_context(RunningBroker(home, issuer))
    issuer.expire_access()
    environment = clean_environment(sandbox, **broker.environment)
    before = refresh_token_in(sandbox)
    inner = run([*AUTHSTATE, "run", "--", *AUTHSTATE, "token"], environment)
    assert inner.returncode == 0, inner.stderr
    show = [sys.executable, "-c", "import os; print(os.environ['AUTHSTATE_BROKER_URL'])"]
    shown = run([*AUTHSTATE, "run", "--", *show], environment)
    assert shown.stdout.strip() == broker.environment["AUTHSTATE_BROKER_URL"]
    assert refresh_token_in(sandbox) == before
