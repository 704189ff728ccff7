"""`authstate-codex`: which commands it wraps, which codex it runs, and the login that an unwrapped codex finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from authstate.adapters.cli.codex import real_codex
from authstate.adapters.cli.codex_arguments import starts_app_server, uses_login
from authstate.adapters.cli.exit_status import UsageError
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import LoopbackIssuer

ECHO_ARGUMENTS = """#!/bin/sh
echo "real codex: $*"
exit 9
"""


def program(path: Path, text: str = ECHO_ARGUMENTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


HELP = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
"--help") echo "  -m, --model <MODEL>
  -p, --profile <PROFILE>
      --enable <FEATURE>
  -i, --image <FILE>...
      --oss" ;;
"app-server --help") echo "      --ws-auth <MODE>
      --ws-token-file <PATH>
      --stdio" ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def codex(tmp_path: Path) -> Path:
    """A codex that only has the two help pages, and writes down what it was asked."""
    return program(tmp_path / "codex", HELP)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for codex")
class TestStartsAppServer:
    @pytest.mark.parametrize(
        "words",
        [
            "-c model=x --config model=x -p work app-server",
            "--enable app-server app-server",
            "-m app-server app-server --stdio",
            "--oss app-server",
            "--oss --image=x app-server",
            "app-server --listen ws://127.0.0.1:1 --ws-auth capability-token --ws-token-file x",
        ],
    )
    def test_codex_is_asked_which_options_take_a_value(self, words: str, codex: Path) -> None:
        assert starts_app_server(words.split(), str(codex))

    @pytest.mark.parametrize("words", ["-p app-server", "--oss exec app-server", "app-server --stdio generate-ts"])
    def test_a_value_or_another_subcommand_is_not_one(self, words: str, codex: Path) -> None:
        assert not starts_app_server(words.split(), str(codex))

    @pytest.mark.parametrize(
        ("words", "starts"),
        [
            ("app-server", True),
            ("app-server --listen stdio://", True),
            ("-c model=x app-server -c a=b", True),
            ("app-server --analytics-default-enabled", True),
            ("app-server --analytics-default-enabled -c a=b", True),
            ("", False),
            ("exec app-server", False),
            ("-m gpt-5 exec hello", False),
            ("app-server generate-ts --out x", False),
            ("app-server --help", False),
            ("app-server --print-startup-config", False),
            ("--version", False),
            ("app-server daemon", False),
            ("exec -- app-server", False),
        ],
    )
    def test_codex_is_not_asked_without_doubt(self, words: str, starts: bool, codex: Path) -> None:
        assert starts_app_server(words.split(), str(codex)) is starts
        assert not Path(f"{codex}.calls").exists()

    def test_each_help_page_is_read_once(self, codex: Path) -> None:
        for _ in range(3):
            assert starts_app_server(["-m", "x", "--oss", "app-server", "--ws-auth", "y"], str(codex))
        assert Path(f"{codex}.calls").read_text() == "--help\napp-server --help\n"

    def test_a_codex_that_cannot_be_asked_is_no_error(self, tmp_path: Path) -> None:
        assert starts_app_server(["--oss", "app-server"], str(tmp_path / "none"))
        assert not starts_app_server(["-m", "x", "app-server"], str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("words", "uses"),
    [
        ("", True),
        ("exec hello", True),
        ("fix this bug", True),
        ("-m gpt-5 resume --last", True),
        ("-m login resume", True),
        ("login --with-api-key", False),
        ("logout", False),
        ("--version", False),
        ("exec --help", False),
        ("-c a=b completion bash", False),
    ],
)
def test_which_commands_use_the_login(words: str, uses: bool) -> None:
    assert uses_login(words.split()) is uses


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

    def test_the_variable_names_no_program(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="AUTHSTATE_CODEX is /no/such, which is not a program"):
            real_codex({"PATH": str(tmp_path), "AUTHSTATE_CODEX": "/no/such"}, "us")

    def test_the_variable_names_authstate_codex_itself(self, tmp_path: Path) -> None:
        us = program(tmp_path / "authstate-codex")
        with pytest.raises(UsageError, match="itself"):
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


def test_another_command_runs_the_real_codex(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("words", "has_broker"), [("exec hello", True), ("login status", False), ("--version", False)])
def test_what_uses_the_login_has_a_broker(tmp_path: Path, words: str, has_broker: bool) -> None:
    codex = program(tmp_path / "codex", '#!/bin/sh\necho "$CODEX_REFRESH_TOKEN_URL_OVERRIDE"\n')
    done = run(tmp_path, codex, *words.split())
    assert done.stdout.startswith("http://127.0.0.1:") is has_broker
    assert done.stderr == ""


async def test_a_login_that_codex_does_not_use_is_not_refreshed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with LoopbackIssuer() as issuer:
        async with AuthJsonStore(home).locked() as held:
            await held.save(tokens_of(issuer, expires_in=60))
        before = (home / "auth.json").read_bytes()
        environment = {**issuer.environment, "CODEX_ACCESS_TOKEN": "at-1"}
        assert run(home, program(tmp_path / "codex"), "exec", "hello", **environment).returncode == 9
        assert issuer.stats()["refreshes_accepted"] == 0
    assert (home / "auth.json").read_bytes() == before


@pytest.mark.parametrize("fault", ["issuer down", "corrupt", "configuration"])
async def test_errors_of_the_login_are_left_to_codex(tmp_path: Path, fault: str) -> None:
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
