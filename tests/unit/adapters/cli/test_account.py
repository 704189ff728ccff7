"""`authstate account`, and `--account` on the other commands: what they print, their exit status, and what they do."""

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import LeaseRequest, LeaseState
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import LoopbackIssuer, make_tokens

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(empty_home: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer) -> Path:
    """An empty home, and an issuer on loopback."""
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    return empty_home


@pytest.fixture
def vault(home: Path) -> Vault:
    return Vault(home, StoreMode.FILE)


def save(vault: Vault, account: str, credentials: Credentials) -> None:
    async def steps() -> None:
        async with vault.store(account).locked() as held:
            await held.save(credentials)

    asyncio.run(steps())


def stored(vault: Vault, account: str) -> Credentials | None:
    return asyncio.run(Vault(vault.home, StoreMode.FILE).store(account).load())


@pytest.fixture
def two(vault: Vault, loopback: LoopbackIssuer) -> Vault:
    """A vault with `home` and `work`; somebody is signed in to both."""
    save(vault, "home", read_login(loopback.seed(email="person@example.com", account_id="org-1")))
    save(vault, vault.add("work").id, read_login(loopback.seed(email="worker@example.com", account_id="org-2")))
    return vault


def run(capsys: Captured, *words: str) -> tuple[int, str, str]:
    status = main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


def read(capsys: Captured, *words: str) -> dict[str, Any]:
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    answer: dict[str, Any] = json.loads(out)
    return answer


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


class TestList:
    def test_a_home_of_today(self, home: Path, capsys: Captured) -> None:
        assert run(capsys, "account", "list") == (
            0,
            f"* home  not signed in\n        store         {home / 'auth.json'}\n        id            home\n",
            "",
        )
        assert not (home / "authstate").exists(), "a look writes nothing"

    def test_who_is_signed_in_where(self, two: Vault, capsys: Captured) -> None:
        _, out, _ = run(capsys, "account", "list")
        assert "* home  person@example.com (workspace org-1)" in out
        assert "  work  worker@example.com (workspace org-2)" in out
        assert "access token  expires at " in out
        home, work = read(capsys, "account", "list")["accounts"]
        assert (home["name"], home["id"], home["isSelected"], home["state"]) == ("home", "home", True, "chatgpt")
        assert (work["email"], work["planType"], work["workspaceId"]) == ("worker@example.com", "plus", "org-2")
        assert work["accessTokenExpiresAt"].endswith("Z") and work["authMode"] == "chatgpt"
        assert work["store"] == two.store(work["id"]).describe()

    def test_an_expired_token_is_shown_and_not_refreshed(
        self, vault: Vault, loopback: LoopbackIssuer, capsys: Captured
    ) -> None:
        save(vault, "home", make_tokens(expires_in=-10.0))
        before = loopback.stats()["requests"]
        assert "access token  expired at " in run(capsys, "account", "list")[1]
        assert loopback.stats()["requests"] == before

    def test_a_login_that_cannot_be_read_and_a_name_that_does_not_exist(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path(two.home, "auth.json").write_text("{")
        monkeypatch.setenv("AUTHSTATE_ACCOUNT", "nobody\x1b[31m")
        status, out, err = run(capsys, "account", "list")
        assert status == 0
        assert "* home  cannot be read" in out and "reason" in out and "worker@example.com" in out
        assert "AUTHSTATE_ACCOUNT names the account nobody" in err and "which the vault does not have" in err
        assert "\x1b" not in out + err

    def test_a_damaged_list(self, two: Vault, capsys: Captured) -> None:
        Path(two.file.path).write_text("{")
        for words in (("list",), ("use", "work"), ("add", "x", "--with-api-key"), ("rename", "home", "y")):
            status, _, err = run(capsys, "account", *words)
            assert status == ExitStatus.NOT_SIGNED_IN
            assert "accounts.json cannot be read" in err and "repair it, or move it away" in err
        status, out, _ = run(capsys, "status", "--account", "home")
        assert status == 0 and "person@example.com" in out, "the home still works"
        for words in (("status",), ("token",), ("logout",), ("status", "--account", "work")):
            status, out, err = run(capsys, *words)
            assert status == ExitStatus.NOT_SIGNED_IN and "accounts.json cannot be read" in err
            assert out == "", "nobody knows which account is selected"

    def test_memory_has_no_accounts(self, capsys: Captured) -> None:
        status, _, err = run(capsys, "account", "list", "-c", 'cli_auth_credentials_store="ephemeral"')
        assert status == ExitStatus.BAD_CONFIGURATION and "keeps one login in memory" in err


class TestUse:
    def test_it_says_who_it_is_and_moves_nothing(self, two: Vault, capsys: Captured) -> None:
        logins = {path: path.read_bytes() for path in Path(two.home).rglob("auth.json")}
        status, out, err = run(capsys, "account", "use", "work")
        assert (status, out, err) == (0, "Using work: worker@example.com (workspace org-2).\n", "")
        assert {path: path.read_bytes() for path in Path(two.home).rglob("auth.json")} == logins
        assert two.accounts().selected == two.accounts().named("work").id
        assert read(capsys, "account", "use", "home")["account"]["isSelected"] is True

    def test_an_account_in_which_nobody_is_signed_in(self, two: Vault, capsys: Captured) -> None:
        two.add("empty")
        status, out, err = run(capsys, "account", "use", "empty")
        assert status == 0 and out == "Using empty: not signed in.\n"
        assert "`authstate login` signs in to empty" in err

    def test_a_name_that_wins_over_it(self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTHSTATE_ACCOUNT", "work")
        _, _, err = run(capsys, "account", "use", "home")
        assert err == "AUTHSTATE_ACCOUNT names the account work, which wins here over the selected account.\n"

    @pytest.mark.parametrize("words", [("use",), ("remove",), ("rename", "x", "y")], ids=lambda words: words[0])
    def test_there_is_no_such_account(self, two: Vault, capsys: Captured, words: tuple[str, ...]) -> None:
        named = (words[0], "nobody", *words[2:])
        status, _, err = run(capsys, "account", *named)
        assert status == ExitStatus.BAD_CONFIGURATION
        assert "there is no account 'nobody': `authstate account list` shows home, work" in err


def test_rename(two: Vault, capsys: Captured) -> None:
    assert run(capsys, "account", "rename", "work", "office") == (0, "Renamed work to office.\n", "")
    assert read(capsys, "account", "rename", "home", "private")["account"]["name"] == "private"
    assert [entry.name for entry in two.accounts().entries] == ["private", "office"]
    for name, why in (("office", "is taken"), ("a b", "cannot be the name")):
        status, _, err = run(capsys, "account", "rename", "private", name)
        assert status == ExitStatus.BAD_CONFIGURATION and why in err


class TestRemove:
    def test_it_is_signed_out_and_its_leases_end_and_nothing_is_left(
        self, two: Vault, loopback: LoopbackIssuer, capsys: Captured
    ) -> None:
        work = two.accounts().named("work").id
        tokens = stored(two, work)
        assert tokens is not None and not isinstance(tokens, str)
        leases = LeaseBook(two.folder)
        asyncio.run(AccountHome(two, leases, work).prepare())
        made, _ = leases.make(LeaseRequest("home", make_tokens().account))
        two.select(work)
        before = loopback.stats()["requests"].get("/oauth/revoke", 0)
        status, out, err = run(capsys, "account", "remove", "work")
        assert (status, out, err) == (0, "Signed out of work, and removed it.\n", "")
        assert loopback.stats()["requests"]["/oauth/revoke"] == before + 1
        assert [lease.state for lease in leases.leases() if lease.account == work] == [LeaseState.ENDED]
        assert [lease.state for lease in leases.leases() if lease.id == made.id] == [LeaseState.ACTIVE]
        assert [entry.name for entry in two.accounts().entries] == ["home"] and two.accounts().selected == "home"
        assert not os.path.exists(two.folder_of(work)) and not os.path.lexists(os.path.join(two.folder, "homes", work))

    def test_windows_may_change_over_before_it_signs_out(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        selected: list[str] = []
        log_out = AuthEngine.log_out

        async def note(engine: AuthEngine) -> None:
            selected.append(two.accounts().selected)
            await log_out(engine)

        monkeypatch.setattr(AuthEngine, "log_out", note)
        two.select(two.accounts().named("work").id)
        assert run(capsys, "account", "remove", "work")[0] == 0
        assert selected == ["home"]

    def test_the_homes_own_account_is_signed_out_only(self, two: Vault, capsys: Captured) -> None:
        status, out, _ = run(capsys, "account", "remove", "home")
        assert status == 0 and out == "Signed out of home. It is the home's own account, and stays in the list.\n"
        assert stored(two, "home") is None
        assert [entry.name for entry in two.accounts().entries] == ["home", "work"]

    def test_what_authstate_does_not_manage_is_not_removed(self, two: Vault, capsys: Captured) -> None:
        work = two.accounts().named("work").id
        text = '{"auth_mode": "bedrockApiKey", "bedrock_api_key": {"api_key": "x"}}'
        place = Path(two.folder_of(work), "auth.json")
        place.write_text(text)
        status, _, err = run(capsys, "account", "remove", "work")
        assert status == ExitStatus.NOT_SIGNED_IN and "Bedrock" in err
        assert place.read_text() == text and two.accounts().find(work) is not None

    def test_it_may_be_repeated_after_a_failure(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(book: LeaseBook, account: str) -> None:
            raise StoreUnavailable("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(LeaseBook, "end_all_of", fail)
            assert run(capsys, "account", "remove", "work")[0] == ExitStatus.TRY_LATER
        assert stored(two, two.accounts().named("work").id) is None
        assert read(capsys, "account", "remove", "work")["isRemoved"] is True


class TestOption:
    """`--account`, before and after the name of a command."""

    @pytest.mark.parametrize(
        "words",
        [
            ("--account", "work", "status"),
            ("--account=work", "status"),
            ("status", "--account", "work"),
            ("status", "--account=work"),
            ("-c", 'authstate.account="home"', "status", "--account", "work"),
            ("--account", "home", "status", "--account", "work"),
        ],
    )
    def test_it_is_used(self, two: Vault, capsys: Captured, words: tuple[str, ...]) -> None:
        status, out, _ = run(capsys, *words)
        assert status == 0
        assert "  account       work (named by --account or -c)\n" in out and "worker@example.com" in out

    def test_it_wins_over_the_variable_and_the_variable_over_the_file(
        self, two: Vault, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "config.toml").write_text('[authstate]\naccount = "work"\n')
        assert read(capsys, "status")["account"]["chosenBy"] == str(home / "config.toml")
        monkeypatch.setenv("AUTHSTATE_ACCOUNT", "home")
        assert read(capsys, "status")["account"] == {"id": "home", "name": "home", "chosenBy": "AUTHSTATE_ACCOUNT"}
        assert read(capsys, "status", "--account", "work")["account"]["chosenBy"] == "-c"
        assert read(capsys, "status", "--account", "work")["email"] == "worker@example.com"

    def test_a_key_in_the_place_of_a_name_is_not_repeated(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUTHSTATE_ACCOUNT", "sk-canary-123456")
        for words in (
            ("account", "list"),
            ("account", "use", "sk-canary-123456"),
            ("lease", "end", "sk-canary-123456"),
        ):
            _, out, err = run(capsys, *words)
            assert "canary" not in out + err, words
            assert err

    def test_status_says_how_an_account_was_chosen_if_there_are_several(self, vault: Vault, capsys: Captured) -> None:
        save(vault, "home", make_tokens())
        assert read(capsys, "status")["account"] is None
        assert "account  " not in run(capsys, "status")[1]
        vault.add("work")
        assert "  account       home (selected with `authstate account use`)\n" in run(capsys, "status")[1]
        assert read(capsys, "status")["account"]["chosenBy"] == "selected"
        status, out, _ = run(capsys, "status", "--account", "work")
        assert status == 1 and "what to do    authstate login --account work" in out

    def test_the_token_of_an_account(self, two: Vault, capsys: Captured) -> None:
        tokens = stored(two, two.accounts().named("work").id)
        status, out, _ = run(capsys, "token", "--account", "work")
        assert status == 0 and out.strip() == tokens.access_token.reveal()  # type: ignore[union-attr]

    def test_login_and_logout_name_the_account(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = two.store(two.accounts().named("work").id).describe()
        status, out, _ = run(capsys, "logout", "--account", "work")
        assert (status, out) == (0, f"Signed out of the account work. Nothing is stored in {place} any more.\n")
        type_in(monkeypatch, "sk-0123456789")
        status, out, _ = run(capsys, "login", "--with-api-key", "--account", "work")
        assert (status, out) == (0, f"Signed in to the account work with an API key, stored in {place}.\n")
        assert stored(two, "home") is not None

    @pytest.mark.parametrize(
        "name", ["", " ", "nobody", 'x"]\nforced_login_method="api', "\ud800", "\x7f", "\U0001f600"]
    )
    def test_a_name_that_does_not_exist_is_one_line(self, two: Vault, capsys: Captured, name: str) -> None:
        status, out, err = run(capsys, "status", "--account", name)
        assert status == ExitStatus.BAD_CONFIGURATION and not out
        assert err.count("\n") == 1 and "authstate account list" in err

    def test_it_needs_a_value(self, capsys: Captured) -> None:
        for words in (("status", "--account"), ("app-server", "--account")):
            status, _, err = run(capsys, *words)
            assert status == ExitStatus.USAGE and "--account" in err


class TestAddWithAKey:
    def test_it_is_a_new_account(self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        type_in(monkeypatch, "sk-0123456789")
        status, out, err = run(capsys, "account", "add", "ci", "--with-api-key")
        assert status == 0 and out.startswith("Added ci: an API key.\n") and not err
        assert "authstate account use ci" in out and "sk-" not in out
        assert two.accounts().selected == "home"

    def test_the_same_key_is_the_same_account(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []
        for _ in range(2):
            type_in(monkeypatch, "sk-0123456789")
            made.append(read(capsys, "account", "add", "--with-api-key"))
        assert [one["isNew"] for one in made] == [True, False]
        assert {one["account"]["name"] for one in made} == {"api-key"}
        type_in(monkeypatch, "sk-0123456789")
        _, out, _ = run(capsys, "account", "add", "other", "--with-api-key")
        assert "The vault had this account already, as api-key" in out
        assert "authstate account rename api-key other" in out

    @pytest.mark.parametrize(
        ("name", "key", "status"),
        [
            ("work", "sk-0123456789", ExitStatus.BAD_CONFIGURATION),
            ("a b", "sk-0123456789", ExitStatus.BAD_CONFIGURATION),
            ("new", "", ExitStatus.NOT_SIGNED_IN),
        ],
    )
    def test_what_is_refused_leaves_no_trace(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch, name: str, key: str, status: ExitStatus
    ) -> None:
        before = two.accounts()
        type_in(monkeypatch, key)
        assert run(capsys, "account", "add", name, "--with-api-key")[0] == status
        assert two.accounts() == before
        assert len(os.listdir(os.path.join(two.folder, "accounts"))) == 1

    def test_a_login_that_cannot_be_stored_leaves_no_trace(
        self, two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch, refuse_writes: Callable[[], None]
    ) -> None:
        before = two.accounts()
        type_in(monkeypatch, "sk-0123456789")
        refuse_writes()
        status, _, err = run(capsys, "account", "add", "ci", "--with-api-key")
        assert status == ExitStatus.TRY_LATER and "no space left" in err
        assert two.accounts() == before


@pytest.fixture
def refuse_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Fill the disk for auth.json."""
    from authstate.adapters.stores.disk import Disk

    write = Disk.write

    def fail(disk: Disk, path: str, data: bytes) -> None:
        if "auth.json" in path:
            raise OSError(28, "No space left on device", path)
        write(disk, path, data)

    return lambda: monkeypatch.setattr(Disk, "write", fail)


def test_an_unwritable_list_is_found_before_anybody_signs_in(
    two: Vault, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from authstate.adapters.stores.disk import Disk

    def fail(disk: Disk, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Disk, "make_folder", fail)
    for words in (("add", "--device"), ("use", "work"), ("rename", "work", "x")):
        status, out, err = run(capsys, "account", *words)
        assert status == ExitStatus.TRY_LATER and not out
        assert "accounts.json" in err and "permission denied" in err
