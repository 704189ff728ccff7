"""`authstate run --account NAME`: what happens in the home of that account, with the real codex and nested commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.test_run import COLLEAGUE, EXEC, PERSON, SHOW, python, start, tokens_in
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.vaults import add_account
from support.wire_client import AUTHSTATE

from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
AS_WORK = (*AUTHSTATE, "run", "--account", "work", "--")
VISITOR = {"email": "visitor@example.com", "account_id": "org-visitor", "expires_in": -10}


def accounts_of(home: Path, issuer: LoopbackIssuer) -> dict[str, str | None]:
    """The email of who is signed in, by nickname."""
    listed = start([*AUTHSTATE, "account", "list", "--json"], home, issuer).communicate(timeout=60)[0]
    return {one["name"]: one["email"] for one in json.loads(listed)["accounts"]}


@pytest.mark.parametrize("release", [OLD, NEW])
async def test_codex_signs_in_as_somebody_else(
    make_home: MakeHome, issuer: LoopbackIssuer, real_parts: RealParts, release: str
) -> None:
    """`codex login` replaces auth.json as `cp` does here. The broker serves that login, and nobody's is lost."""
    codex = real_parts.codex(release)
    home = make_home(config=model_config(issuer), **PERSON)
    work = await add_account(home, issuer, "work", **COLLEAGUE)
    visitor = make_home(**VISITOR)
    before = tokens_in(home / "authstate" / "accounts" / work)["account_id"]
    script = f'cp "{visitor}/auth.json" "$CODEX_HOME/auth.json" && exec "{codex}" {" ".join(EXEC)}'
    run = start([*AS_WORK, "sh", "-c", script], home, issuer)
    output, errors = run.communicate(timeout=120)
    assert (run.returncode, output) == (0, "You said: hi\n"), errors
    assert accounts_of(home, issuer) == {
        "home": "person@example.com",
        "work": "colleague@example.com",
        "visitor@example.com": "visitor@example.com",
    }
    assert tokens_in(home / "authstate" / "accounts" / work)["account_id"] == before
    assert tokens_in(home / "authstate" / "homes" / work)["refresh_token"].startswith(PREFIX)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    again = start([*AS_WORK, str(codex), *EXEC], home, issuer)
    assert again.communicate(timeout=120)[0] == "You said: hi\n"
    assert tokens_in(home / "authstate" / "homes" / work)["account_id"] == "org-colleague"


async def test_a_login_that_is_never_used_is_taken_over_when_the_command_ends(
    make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(**PERSON)
    work = await add_account(home, issuer, "work", **COLLEAGUE)
    visitor = make_home(**VISITOR)
    run = start([*AS_WORK, "sh", "-c", f'cp "{visitor}/auth.json" "$CODEX_HOME/auth.json"'], home, issuer)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "codex signed in as somebody else than the account work" in errors
    assert "authstate run --account visitor@example.com -- COMMAND" in errors
    assert "visitor@example.com" in accounts_of(home, issuer)
    assert tokens_in(visitor)["refresh_token"] not in (home / "authstate" / "homes" / work / "auth.json").read_text()


async def test_a_command_inside_may_name_another_account(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(**PERSON)
    work = await add_account(home, issuer, "work", **COLLEAGUE)

    def environment(*inner: str) -> dict[str, str]:
        run = start([*AS_WORK, *inner, *python(SHOW)], home, issuer)
        output, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
        found: dict[str, str] = json.loads(output)["environment"]
        return found

    of_work = environment()
    assert of_work["CODEX_HOME"] == str(home / "authstate" / "homes" / work)
    assert environment(*AUTHSTATE, "run", "--")["CODEX_HOME"] == of_work["CODEX_HOME"]
    at_home = environment(*AUTHSTATE, "run", "--account", "home", "--")
    assert (at_home["CODEX_HOME"], at_home["AUTHSTATE_ACCOUNT"]) == (str(home), "home")
    assert not (home / "authstate" / "homes" / work / "authstate").exists(), "there is one vault"


@pytest.mark.parametrize("arguments", [(), ("--account", "home")])
async def test_status_inside_tells_which_account_it_is(
    make_home: MakeHome, issuer: LoopbackIssuer, arguments: tuple[str, ...]
) -> None:
    home = make_home(**PERSON)
    work = await add_account(home, issuer, "work", **COLLEAGUE)
    expected = ("home", "person@example.com") if arguments else (work, "colleague@example.com")
    run = start([*AS_WORK, *AUTHSTATE, "status", "--json", *arguments], home, issuer)
    output, errors = run.communicate(timeout=60)
    status = json.loads(output)
    assert (status["account"]["id"], status["email"]) == expected, errors
    by_hand = {"CODEX_HOME": str(home / "authstate" / "homes" / work)}
    alone = start([*AUTHSTATE, "status", "--json", *arguments], home, issuer, **by_hand)
    status = json.loads(alone.communicate(timeout=60)[0])
    assert (status["account"]["id"], status["email"]) == expected


async def test_what_codex_made_is_kept_when_the_account_is_removed(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(**PERSON)
    await add_account(home, issuer, "work", **COLLEAGUE)
    script = 'mkdir "$CODEX_HOME/prompts" "$CODEX_HOME/skills" && echo kept > "$CODEX_HOME/prompts/one.md"'
    assert start([*AS_WORK, "sh", "-c", script], home, issuer).wait(timeout=60) == 0
    (home / "skills").mkdir()
    removal = start([*AUTHSTATE, "account", "remove", "work"], home, issuer)
    _, errors = removal.communicate(timeout=60)
    assert removal.returncode == 0
    assert "skills is still there: the home has another one of this name" in errors
    assert (home / "prompts" / "one.md").read_text() == "kept\n"


@pytest.mark.parametrize("release", [NEW, "newest"])
async def test_codex_signs_out_of_the_account(
    make_home: MakeHome, issuer: LoopbackIssuer, real_parts: RealParts, release: str
) -> None:
    """It is what happens on the home of today, too. 0.93.0 tells nobody that somebody signed out."""
    home = make_home(**PERSON)
    work = await add_account(home, issuer, "work", **COLLEAGUE)
    run = start([*AS_WORK, str(real_parts.codex(release)), "logout"], home, issuer)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert accounts_of(home, issuer) == {"home": "person@example.com", "work": None}
    assert not (home / "authstate" / "homes" / work / "auth.json").exists()
    assert issuer.stats()["revocations"] == 1
