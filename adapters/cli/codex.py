"""`authstate-codex`: stands in for codex where a program can only be given the path of a codex binary.

    authstate-codex app-server ...   is `authstate wrap -- codex app-server ...`
    authstate-codex ANYTHING ...     is `codex ANYTHING ...`, this process replaced by it

The real codex is `AUTHSTATE_CODEX` (a path, or a name to look for on PATH), or else the first `codex` on PATH that is
not this program. What is not wrapped shares the stored login. A login that is about to expire is refreshed before such
a codex starts, under our lock, so that the codex need not refresh it without one.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from authstate.adapters.child.command import SUBCOMMAND, overrides_of
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.cli.main import open_missing_streams, report_errors

VARIABLE = "AUTHSTATE_CODEX"
_FRESH_WITHIN = 10.0  # seconds that a codex which is not wrapped waits for a fresh token, at most

# Options of codex, before its subcommand or of its app-server, whose value is a word of its own.
_WITH_VALUE = frozenset(
    {
        *("-c", "--config", "--enable", "--disable", "-i", "--image", "-m", "--model", "--local-provider"),
        *("-p", "--profile", "-s", "--sandbox", "-a", "--ask-for-approval", "-C", "--cd", "--add-dir"),
        *("--remote", "--remote-auth-token-env", "--listen", "--startup-client-info", "--cloud-skills-snapshot"),
        *("--code-mode-host", "--ws-auth", "--ws-token-file", "--ws-token-sha256", "--ws-shared-secret-file"),
        *("--ws-issuer", "--ws-audience", "--ws-max-clock-skew-seconds"),
    }
)
_PRINT_AND_END = frozenset({"-h", "--help", "-V", "--version", "--print-startup-config"})
_WITHOUT_LOGIN = frozenset(
    {"login", "logout", "completion", "help", "features", "sandbox", "debug", "update", "doctor"}
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line of codex and return its exit status. Never raises for bad input.

    A standard stream that is closed counts as the null device here, and is closed for a codex that is not wrapped.
    """
    open_missing_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        codex = real_codex(os.environ)
    except UsageError as error:
        return print_error(str(error), ExitStatus.USAGE)
    if is_server(arguments):
        return report_errors(lambda: _wrap([codex, *arguments]))
    return report_errors(lambda: _exec(codex, arguments))


def real_codex(environ: Mapping[str, str], us: str | None = None) -> str:
    """The path of the real codex.

    Args:
        environ: the environment variables.
        us: the path of this program, by default what it was started as.

    Raises:
        UsageError: there is none. The message says what to set.
    """
    this = os.path.realpath(sys.argv[0] if us is None else us)
    named = environ.get(VARIABLE, "").strip()
    for path in _candidates(named or "codex", environ.get("PATH", os.defpath)):
        if os.path.realpath(path) != this:
            return path
        if named:
            raise UsageError(f"{VARIABLE} leads back to authstate-codex: set it to the path of the real codex")
    if named:
        raise UsageError(f"{VARIABLE} is {named}, and no such program can be run: set it to the path of the real codex")
    raise UsageError(f"authstate-codex runs the real codex, and there is none on PATH: install it, or set {VARIABLE}")


def _candidates(name: str, path: str) -> Iterator[str]:
    import shutil

    for folder in [""] if os.path.dirname(name) else path.split(os.pathsep):
        found = shutil.which(name) if not folder else shutil.which(name, path=folder)
        if found:
            yield found


def is_server(arguments: Sequence[str]) -> bool:
    """Whether the words start an app-server; `app-server generate-ts` and its like print something and end."""
    words = _Words(arguments)
    return words.positional[:1] == [SUBCOMMAND] and len(words.positional) == 1 and not words.only_prints


def acts_with_a_login(arguments: Sequence[str]) -> bool:
    """Whether the words start something that may ask the backend."""
    words = _Words(arguments)
    return not words.only_prints and not (words.positional and words.positional[0] in _WITHOUT_LOGIN)


class _Words:
    """A command line of codex, as far as it matters here."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.positional: list[str] = []
        self.only_prints = False
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            if word == "--":
                self.positional += rest
                break
            if word in _WITH_VALUE:
                del rest[:1]
            elif word in _PRINT_AND_END:
                self.only_prints = True
            elif not word.startswith("-"):
                self.positional.append(word)


def freshen(overrides: Sequence[str]) -> None:
    """Refresh the stored login, with one try, if it is about to expire. What goes wrong, codex finds out itself.

    Args:
        overrides: the `-c KEY=VALUE` that the codex gets.
    """
    import asyncio

    from authstate.adapters.assembly import open_engine
    from authstate.adapters.config import ConfigError, Environment, load_config
    from authstate.engine.flows.urgency import Urgency
    from authstate.engine.model.errors import AuthError
    from authstate.engine.model.refresh_settings import RefreshSettings

    async def refresh() -> None:
        environment = Environment.read(os.environ)
        config = load_config(environment.home, overrides)
        async with open_engine(config, environment, settings=RefreshSettings(total=0.0)) as engine:
            if engine.urgency() is not Urgency.NONE:
                await engine.refresh()

    try:
        asyncio.run(asyncio.wait_for(refresh(), _FRESH_WITHIN))
    except (AuthError, ConfigError, OSError, TimeoutError):
        return


def _wrap(command: list[str]) -> int:
    from authstate.adapters.cli.wrap import wrap

    return wrap([], command)


def _exec(codex: str, arguments: list[str]) -> int:
    """Let this process become the codex; where there is no such thing, run it and return its exit status."""
    if acts_with_a_login(arguments):
        freshen(overrides_of(arguments))
    sys.stdout.flush()
    command = [codex, *arguments]
    try:
        if os.name != "nt":
            os.execv(command[0], command)
        import subprocess

        return subprocess.call(command)
    except OSError as error:
        from authstate.adapters.child.process import CANNOT_RUN

        return print_error(f"cannot start {codex}: {(error.strerror or type(error).__name__).lower()}", CANNOT_RUN)


if __name__ == "__main__":
    sys.exit(main())
