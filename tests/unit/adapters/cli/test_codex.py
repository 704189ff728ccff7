"""`authstate-codex`: which words are wrapped, which codex is the real one, and what a codex beside us finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from authstate.adapters.cli.codex import acts_with_a_login, is_server, real_codex
from authstate.adapters.cli.exit_status import UsageError
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.testing import LoopbackIssuer
from authstate.engine.model.credentials import ChatgptTokens

SAYS = """#!/bin/sh
echo "real codex: $*"
exit 9
"""


def program(path: Path, text: str = SAYS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "words",
    [
        "app-server",
        "app-server --listen stdio://",
        "-c model=x app-server -c a=b",
        "--config model=x -p work app-server",
        "--enable app-server app-server",
        "-m app-server app-server --stdio",
        "app-server --listen ws://127.0.0.1:1 --ws-auth capability-token --ws-token-file x",
    ],
)
def test_a_server_is_wrapped(words: str) -> None:
    assert is_server(words.split())


@pytest.mark.parametrize(
    "words",
    [
        "",
        "exec app-server",
        "app-server generate-ts --out x",
        "app-server --help",
        "--version",
        "-p app-server",
        "app-server daemon",
        "exec -- app-server",
    ],
)
def test_everything_else_is_not(words: str) -> None:
    assert not is_server(words.split())


@pytest.mark.parametrize(
    ("words", "acts"),
    [
        ("", True),
        ("exec hello", True),
        ("fix this bug", True),
        ("-m gpt-5 resume --last", True),
        ("login --with-api-key", False),
        ("logout", False),
        ("--version", False),
        ("exec --help", False),
        ("-c a=b completion bash", False),
    ],
)
def test_a_login_is_freshened_for_what_acts_with_one(words: str, acts: bool) -> None:
    assert acts_with_a_login(words.split()) is acts


class TestRealCodex:
    def test_the_first_on_the_path_that_is_not_us(self, tmp_path: Path) -> None:
        us = program(tmp_path / "ours" / "authstate-codex")
        (tmp_path / "ours" / "codex").symlink_to(us)
        real = program(tmp_path / "real" / "codex")
        path = os.pathsep.join(str(tmp_path / name) for name in ("none", "ours", "real"))
        assert real_codex({"PATH": path}, str(us)) == str(real)

    def test_the_variable_wins(self, tmp_path: Path) -> None:
        program(tmp_path / "codex")
        named = program(tmp_path / "other" / "codex-nightly")
        environ = {"PATH": str(tmp_path), "AUTHSTATE_CODEX": str(named)}
        assert real_codex(environ, "us") == str(named)

    def test_the_variable_may_be_a_name(self, tmp_path: Path) -> None:
        named = program(tmp_path / "codex-nightly")
        assert real_codex({"PATH": str(tmp_path), "AUTHSTATE_CODEX": "codex-nightly"}, "us") == str(named)

    def test_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is none on PATH: install it, or set AUTHSTATE_CODEX"):
            real_codex({"PATH": str(tmp_path)}, "us")

    def test_the_variable_leads_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="AUTHSTATE_CODEX is /no/such, and no such program can be run"):
            real_codex({"PATH": str(tmp_path), "AUTHSTATE_CODEX": "/no/such"}, "us")

    def test_the_variable_leads_back_to_us(self, tmp_path: Path) -> None:
        us = program(tmp_path / "authstate-codex")
        with pytest.raises(UsageError, match="leads back"):
            real_codex({"PATH": "", "AUTHSTATE_CODEX": str(us)}, str(us))


def run(home: Path, codex: Path | None, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "COV_"))}
    environment |= {"CODEX_HOME": str(home), "AUTHSTATE_CODEX": str(codex) if codex else "/no/such", **more}
    return subprocess.run(
        [sys.executable, "-m", "authstate.adapters.cli.codex", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )


def test_another_command_is_the_real_codex(tmp_path: Path) -> None:
    done = run(tmp_path, program(tmp_path / "codex"), "exec", "--json", "hello there")
    assert (done.returncode, done.stdout, done.stderr) == (9, "real codex: exec --json hello there\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes a stream")
@pytest.mark.parametrize("closed", [">&-", "<&-", "<&- >&-", "2>&-"])
def test_a_stream_that_is_closed_is_closed_for_the_codex(tmp_path: Path, closed: str) -> None:
    codex = program(tmp_path / "codex", "#!/bin/sh\nfor fd in 0 1 2; do test -e /dev/fd/$fd || exit 9; done\n")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "authstate.adapters.cli.codex", "exec"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "CODEX_HOME": str(tmp_path), "AUTHSTATE_CODEX": str(codex)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, "", "")


def test_a_missing_codex_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, None, "exec", "hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("authstate: AUTHSTATE_CODEX is /no/such")
    assert done.stderr.count("\n") == 1


async def test_a_login_about_to_expire_is_refreshed_for_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with LoopbackIssuer() as issuer:
        async with AuthJsonStore(home).locked() as held:
            await held.save(tokens_of(issuer, expires_in=60))
        before = await AuthJsonStore(home).load()
        assert run(home, program(tmp_path / "codex"), "login", "status", **issuer.environment).returncode == 9
        assert await AuthJsonStore(home).load() == before
        assert run(home, program(tmp_path / "codex"), "exec", "hello", **issuer.environment).returncode == 9
        assert issuer.stats()["refreshes_accepted"] == 1
    assert await AuthJsonStore(home).load() != before


@pytest.mark.parametrize("fault", ["issuer down", "corrupt", "configuration"])
async def test_what_is_wrong_with_the_login_is_left_to_codex(tmp_path: Path, fault: str) -> None:
    home = tmp_path / "home"
    with LoopbackIssuer() as issuer:  # which is down afterwards
        async with AuthJsonStore(home).locked() as held:
            await held.save(tokens_of(issuer, expires_in=-60))
        environment = issuer.environment
    if fault == "corrupt":
        (home / "auth.json").write_text("{half")
    elif fault == "configuration":
        (home / "config.toml").write_text("= no TOML")
    before = (home / "auth.json").read_bytes()
    done = run(home, program(tmp_path / "codex"), "exec", "hello", **environment)
    assert (done.returncode, done.stderr) == (9, "")
    assert (home / "auth.json").read_bytes() == before


def tokens_of(issuer: LoopbackIssuer, *, expires_in: float) -> ChatgptTokens:
    given = issuer.seed(expires_in=expires_in)
    return ChatgptTokens.read(
        id_token=given["id_token"],
        access_token=given["access_token"],
        refresh_token=given["refresh_token"],
        account_id=given["account_id"],
    )
