"""`authstate postgres`: what each command prints and does, and its exit status."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.postgres import PostgresServer

from authstate import ApiKey, AuthJsonStore, EncryptionKeys, KeyFile, PostgresDatabase, Vault
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.credentials import Credentials
from authstate.testing import make_tokens

Captured = pytest.CaptureFixture[str]
TOKENS = make_tokens(email="canary@example.com", refresh_token="rt-canary-0123456789")
KEY = ApiKey.parse("sk-canary-0123456789")
SECRETS = ("rt-canary", "sk-canary", "canary@example.com", TOKENS.access_token.reveal()[:40])


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nobody").mkdir()
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "nobody"))
    for name in ("AUTHSTATE_DATABASE_URL", "AUTHSTATE_DATABASE_KEYS", "AUTHSTATE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with all tables, which the environment names."""
    monkeypatch.setenv("AUTHSTATE_DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def key_file(tmp_path: Path, capsys: Captured) -> str:
    path = str(tmp_path / "keys")
    assert main(["postgres", "new-key", "--keys", path]) == 0
    capsys.readouterr()
    return path


@pytest.fixture(autouse=True)
def no_secret_is_printed(capsys: Captured) -> "Callable[[], tuple[str, str]]":
    """Returns what was printed, after it was searched for secrets."""

    def printed() -> tuple[str, str]:
        out, err = capsys.readouterr()
        for secret in SECRETS:
            assert secret not in out + err
        return out, err

    return printed


Printed = Callable[[], tuple[str, str]]


@pytest.fixture
def printed(no_secret_is_printed: Printed) -> Printed:
    return no_secret_is_printed


def save(url: str, keys: str, account: str, credentials: Credentials) -> None:
    async def steps() -> None:
        database = PostgresDatabase(url, KeyFile(keys), connections=1, listens=False)
        async with database, database.store(account).locked() as held:
            await held.save(credentials)

    asyncio.run(steps())


def stored(url: str, keys: str, account: str) -> Credentials | None:
    async def steps() -> Credentials | None:
        async with PostgresDatabase(url, KeyFile(keys), connections=1, listens=False) as database:
            return await database.store(account).load()

    return asyncio.run(steps())


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def with_new_key_first(keys: str) -> str:
    """Make a key, and move it to the top. Returns the id of the old one."""
    assert main(["postgres", "new-key", "--keys", keys]) == 0
    heading, old, new = Path(keys).read_text().splitlines()
    Path(keys).write_text(f"{heading}\n{new}\n{old}\n")
    return old.partition("=")[0]


def test_init_makes_tables_and_shows_rights(postgres_server: PostgresServer, printed: Printed) -> None:
    run(postgres_server.url(), "CREATE DATABASE made_by_init")
    try:
        command = ["postgres", "init", "--database", postgres_server.url("made_by_init")]
        assert main(command) == 0
        out, err = printed()
        assert out.startswith("Applied migration 1: ") and err == ""
        assert "has tables of version" in out
        assert '  GRANT SELECT, INSERT, UPDATE ON authstate.accounts TO "ROLE";' in out
        assert main(command) == 0
        assert "Applied" not in printed()[0]
        run(postgres_server.url(), "CREATE ROLE made_by_test LOGIN")
        assert main([*command, "--grant-to", "made_by_test"]) == 0
        out, _ = printed()
        assert out.endswith("The role made_by_test may use them.\n") and "GRANT" not in out
        assert main(["postgres", "migrate", "--database", command[-1].replace("=postgres", "=made_by_test")]) == 4
        assert "name one in the URL that owns the database" in printed()[1]
    finally:
        run(postgres_server.url(), "DROP DATABASE made_by_init")
        run(postgres_server.url(), "DROP ROLE IF EXISTS made_by_test")


def test_status_counts(url: str, key_file: str, printed: Printed) -> None:
    save(url, key_file, "alice", KEY)
    save(url, key_file, "bob", TOKENS)
    run(url, "UPDATE authstate.accounts SET held_until = clock_timestamp() + interval '1 hour' WHERE account = 'bob'")
    claim = "INSERT INTO authstate.refresh_claims VALUES ('{}', '{}', 1, '{}', 0, '', 1, NULL, '', '', '')"
    run(url, claim.format("bob", "sent", "claimed"))
    run(url, claim.format("bob", "lost", "doubtful"))
    run(url, claim.format("alice", "ended", "claimed"))
    run(url, claim.format("alice", "done", "spent"))
    assert main(["postgres", "status", "--json"]) == 0
    found = json.loads(printed()[0])
    [(key_id, count)] = found.pop("logins").items()
    assert key_id in Path(key_file).read_text() and count == 2
    assert found.pop("database").startswith("PostgreSQL at ")
    assert found.pop("version") == found.pop("newestVersion")
    assert found == {"accounts": 2, "leases": {}, "held": 1, "underWay": 1, "inDoubt": 2}
    assert main(["postgres", "status"]) == 0
    out, _ = printed()
    assert f"  logins        2, encrypted: 2 by {key_id}\n" in out
    assert "  leases        0\n" in out
    assert "  refreshes     1 under way, 2 in doubt\n" in out


def test_status_of_other_tables_says_what_to_do(url: str, postgres_server: PostgresServer, printed: Printed) -> None:
    run(url, "INSERT INTO authstate.migrations VALUES (9999, 'of a later release')")
    assert main(["postgres", "status"]) == 0
    assert "version 9999: update authstate here" in printed()[0]
    assert main(["postgres", "migrate"]) == 4
    assert "has tables of a newer release" in printed()[1]
    assert main(["postgres", "status", "--database", postgres_server.url()]) == 4
    assert "run `authstate postgres init`" in printed()[1]


def test_a_key_is_rotated_in_three_steps(url: str, key_file: str, printed: Printed) -> None:
    save(url, key_file, "alice", KEY)
    assert main(["postgres", "new-key", "--keys", key_file]) == 0
    out, _ = printed()
    assert "It decrypts only" in out
    assert main(["postgres", "rotate-key", "--keys", key_file]) == 0
    assert printed()[0].startswith("Encrypted 0 logins and 0 leases")
    heading, old, new = Path(key_file).read_text().splitlines()
    Path(key_file).write_text(f"{heading}\n{new}\n{old}\n")
    assert main(["postgres", "rotate-key", "--keys", key_file]) == 0
    out, err = printed()
    new_id = new.partition("=")[0]
    assert out.startswith(f"Encrypted 1 logins and 0 leases with the key {new_id}.\nNo other key encrypts a login")
    assert err == f"encrypted with {new_id}: 1 logins and 0 leases\n"
    Path(key_file).write_text(f"{new}\n")
    assert stored(url, key_file, "alice") == KEY


def test_a_rotation_tells_what_it_could_not_read(url: str, key_file: str, printed: Printed) -> None:
    save(url, key_file, "alice", KEY)
    save(url, key_file, "bob", KEY)
    old = with_new_key_first(key_file)
    run(url, "UPDATE authstate.accounts SET login = substring(login FROM 2) WHERE account = 'bob'")
    assert main(["postgres", "rotate-key", "--keys", key_file]) == 1
    out, err = printed()
    assert "Encrypted 1 logins" in out and f"Keep {old}: logins or leases need them." in err
    assert "the logins of these accounts were changed or truncated: bob. Restore their rows from a backup" in err
    assert main(["postgres", "forget", "bob", "--keys", key_file]) == 0
    assert main(["postgres", "rotate-key", "--keys", key_file]) == 0
    Path(key_file).write_text(Path(key_file).read_text().splitlines()[1])
    printed()
    run(url, f"UPDATE authstate.accounts SET key_id = '{old}' WHERE account = 'alice'")
    assert main(["postgres", "rotate-key", "--keys", key_file]) == 1
    assert f"is encrypted with the key {old}, and the keys here are" in printed()[1]


def test_a_key_is_printed_for_a_program(capsys: Captured) -> None:
    assert main(["postgres", "new-key"]) == 0
    line = capsys.readouterr().out
    assert EncryptionKeys.parse(line, "the output").ids == (line.partition("=")[0],)


def test_a_key_is_not_printed_to_a_terminal(monkeypatch: pytest.MonkeyPatch, printed: Printed) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["postgres", "new-key"]) == 2
    out, err = printed()
    assert out == "" and "name a file with --keys" in err


def test_a_login_that_can_be_read_is_not_forgotten(url: str, key_file: str, printed: Printed) -> None:
    save(url, key_file, "alice", TOKENS)
    assert main(["postgres", "forget", "alice", "--keys", key_file]) == 1
    assert "can be read with these keys, so it was not removed" in printed()[1]
    assert stored(url, key_file, "alice") == TOKENS
    assert main(["postgres", "forget", "nobody", "--keys", key_file]) == 1
    assert "no login is stored there" in printed()[1]
    assert main(["postgres", "forget", "an@email", "--keys", key_file]) == 2
    assert "the id of an account has" in printed()[1]


def test_a_login_whose_key_is_lost_is_forgotten_if_that_key_is_named(
    url: str, key_file: str, tmp_path: Path, printed: Printed
) -> None:
    save(url, key_file, "alice", TOKENS)
    lost = Path(key_file).read_text().splitlines()[1].partition("=")[0]
    others = str(tmp_path / "others")
    assert main(["postgres", "new-key", "--keys", others]) == 0
    for more in ([], ["--lost-key", "another"]):
        assert main(["postgres", "forget", "alice", "--keys", others, *more]) == 1
        assert f"If the key {lost} is lost for good, add --lost-key {lost}" in printed()[1]
    assert stored(url, key_file, "alice") == TOKENS
    assert main(["postgres", "forget", "alice", "--keys", others, "--lost-key", lost]) == 0
    assert "Sign in to it again" in printed()[0]
    assert stored(url, others, "alice") is None


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """The vault of a home, with the accounts `home` and `work`."""
    (tmp_path / "home").mkdir()
    made = Vault(tmp_path / "home", StoreMode.FILE)
    made.add("work")
    return made


def test_import_moves_every_login_of_a_home(url: str, key_file: str, vault: Vault, printed: Printed) -> None:
    work = vault.accounts().named("work").id
    put(vault, "home", TOKENS)
    put(vault, work, KEY)
    command = ["postgres", "import", vault.home, "--as", "alice", "--keys", key_file]
    assert main(command) == 0
    out, err = printed()
    assert err == "" and len(out.splitlines()) == 2
    assert f"Moved the login of work to account alice/{work} in PostgreSQL at" in out
    assert (stored(url, key_file, "alice"), stored(url, key_file, f"alice/{work}")) == (TOKENS, KEY)
    assert (in_home(vault, "home"), in_home(vault, work)) == (None, None)
    assert main(command) == 1
    assert "nobody is signed in" in printed()[1]


def test_import_moves_the_account_that_is_named(
    url: str, key_file: str, vault: Vault, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = vault.accounts().named("work").id
    put(vault, "home", TOKENS)
    put(vault, work, KEY)
    monkeypatch.setenv("AUTHSTATE_ACCOUNT", "of another home")
    monkeypatch.setenv("AUTHSTATE_DATABASE_KEYS", Path(key_file).read_text().splitlines()[1])
    assert main(["postgres", "import", vault.home, "--account", "work", "--as", "bob"]) == 0
    assert "Moved the login of work to account bob in" in printed()[0]
    assert stored(url, key_file, "bob") == KEY
    assert (in_home(vault, "home"), in_home(vault, work)) == (TOKENS, None)


def test_import_moves_what_it_can_and_tells_the_rest(url: str, key_file: str, vault: Vault, printed: Printed) -> None:
    work = vault.accounts().named("work").id
    put(vault, "home", TOKENS, RefreshClaim(fingerprint_of(TOKENS.refresh_token)).after(RefreshClaimTrigger.CLAIM, 1.0))
    put(vault, work, KEY)
    assert main(["postgres", "import", vault.home, "--as", "alice", "--keys", key_file]) == 1
    out, err = printed()
    assert "Moved the login of work" in out and "ended in the middle of a refresh" in err
    assert (in_home(vault, "home"), stored(url, key_file, "alice")) == (TOKENS, None)


def put(vault: Vault, account: str, credentials: Credentials, claim: RefreshClaim | None = None) -> None:
    async def steps() -> None:
        async with vault.store(account).locked() as held:
            await held.save(credentials)
            if claim is not None:
                await held.record(claim)

    asyncio.run(steps())


def in_home(vault: Vault, account: str) -> Credentials | None:
    folder = vault.home if account == "home" else vault.folder_of(account)
    return asyncio.run(AuthJsonStore(folder).load())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["status"], 2, "nothing names a database: --database postgresql://USER@HOST/DATABASE, or AUTHSTATE_DATABASE"),
        (["status", "--database", "postgresql://me:canary-pw@localhost/db"], 3, "contains a password"),
        (["status", "--database", "://"], 3, "this is no URL of a database"),
        (["rotate-key", "--database", "dbname=x"], 3, "AUTHSTATE_DATABASE_KEYS is not set: set it, or name a file"),
        (["rotate-key", "--database", "dbname=x", "--keys", "/no/such"], 3, "the encryption keys in /no/such cannot"),
        (
            ["status", "--database", "host=127.0.0.1 port=1 dbname=x"],
            4,
            "PostgreSQL at 127.0.0.1:1, database x: no connection: no server answers there",
        ),
        (["import", "/no/such", "--as", "a", "--database", "dbname=x"], 3, "there is no such folder"),
        (["import", ".", "--as", "an@email", "--database", "dbname=x"], 3, "AUTHSTATE_DATABASE_KEYS is not set"),
        (["new-key", "--keys", "/no/such/folder"], 1, "cannot use /no/such/folder"),
    ],
)
def test_what_cannot_be_used_is_told(arguments: list[str], status: int, said: str, printed: Printed) -> None:
    assert main(["postgres", *arguments]) == status
    out, err = printed()
    assert out == "" and said in err and "canary-pw" not in err
    assert len(err.splitlines()) == 1


def test_a_role_without_rights_is_told_what_to_do(
    url: str, key_file: str, postgres_server: PostgresServer, printed: Printed
) -> None:
    run(url, "CREATE ROLE without_rights LOGIN")
    try:
        as_role = ["--database", url.replace("user=postgres", "user=without_rights")]
        for command in (
            ["status"],
            ["rotate-key", "--keys", key_file],
            ["forget", "alice", "--keys", key_file],
            ["logout", "alice", "--keys", key_file],
        ):
            assert main(["postgres", *command, *as_role]) == 4
            assert "grant it the rights that `authstate postgres init` prints" in printed()[1]
    finally:
        run(url, "DROP ROLE without_rights")
    assert main(["postgres", "status", *as_role]) == 4
    assert 'role "without_rights" does not exist' in printed()[1]
