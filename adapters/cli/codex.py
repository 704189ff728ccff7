"""`authstate-codex`: takes the place of codex in programs whose only setting is the path of a codex binary.

    authstate-codex app-server ...   runs `authstate wrap -- codex app-server ...`
    authstate-codex ANYTHING ...     replaces this process by `codex ANYTHING ...`

The real codex is `AUTHSTATE_CODEX` (a path, or a name to look up on PATH), or else the first `codex` on PATH that is
not this program. A codex that is not wrapped uses the stored login. If that login is about to expire, it is refreshed
under our lock before codex starts, so that codex does not refresh it without the lock.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from authstate.adapters.child.command_line import overrides_of
from authstate.adapters.cli.codex_arguments import starts_app_server, uses_login
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.cli.main import replace_closed_streams, report_errors

VARIABLE = "AUTHSTATE_CODEX"
_REFRESH_WITHIN = 10.0  # seconds; codex starts after that in any case


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line of codex and return its exit status. Bad input raises nothing.

    A closed standard stream is replaced by the null device here. It stays closed for a codex that is not wrapped.
    """
    replace_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        codex = real_codex(os.environ)
    except UsageError as error:
        return print_error(str(error), ExitStatus.USAGE)
    if starts_app_server(arguments, codex):
        return report_errors(lambda: _wrap([codex, *arguments]))
    return report_errors(lambda: _exec(codex, arguments))


def real_codex(environ: Mapping[str, str], us: str | None = None) -> str:
    """Return the path of the real codex.

    Args:
        environ: the environment variables.
        us: the path of this program; by default the one it was started with.

    Raises:
        UsageError: there is no real codex. The message says what to set.
    """
    this = os.path.realpath(sys.argv[0] if us is None else us)
    named = environ.get(VARIABLE, "").strip()
    for path in _candidates(named or "codex", environ.get("PATH", os.defpath)):
        if os.path.realpath(path) != this:
            return path
        if named:
            raise UsageError(f"{VARIABLE} is the path of authstate-codex itself: set it to the path of the real codex")
    if named:
        raise UsageError(f"{VARIABLE} is {named}, which is not a program: set it to the path of the real codex")
    raise UsageError(f"authstate-codex needs the real codex, and there is none on PATH: install it, or set {VARIABLE}")


def _candidates(name: str, path: str) -> Iterator[str]:
    import shutil

    for folder in [""] if os.path.dirname(name) else path.split(os.pathsep):
        found = shutil.which(name) if not folder else shutil.which(name, path=folder)
        if found:
            yield found


def refresh_if_expiring(overrides: Sequence[str]) -> None:
    """Refresh the stored login, with one attempt, if it is about to expire. Errors are ignored: codex reports them.

    Args:
        overrides: the `-c KEY=VALUE` that codex gets.
    """
    import asyncio

    from authstate.adapters.assembly import open_engine
    from authstate.adapters.config import ConfigError, Environment, load_config
    from authstate.engine.flows.refresh_urgency import Urgency
    from authstate.engine.model.errors import AuthError
    from authstate.engine.model.refresh_settings import RefreshSettings

    async def refresh() -> None:
        environment = Environment.read(os.environ)
        config = load_config(environment.home, overrides)
        async with open_engine(config, environment, settings=RefreshSettings(total=0.0)) as engine:
            if engine.urgency() is not Urgency.NONE:
                await engine.refresh()

    try:
        asyncio.run(asyncio.wait_for(refresh(), _REFRESH_WITHIN))
    except (AuthError, ConfigError, OSError, TimeoutError):
        return


def _wrap(command: list[str]) -> int:
    from authstate.adapters.cli.wrap import wrap

    return wrap([], command)


def _exec(codex: str, arguments: list[str]) -> int:
    """Replace this process by codex. On Windows, run codex and return its exit status."""
    if uses_login(arguments):
        refresh_if_expiring(overrides_of(arguments))
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
