"""`authstate-codex`: takes the place of codex in programs whose only setting is the path of a codex binary.

    authstate-codex app-server ...   runs `authstate wrap -- codex app-server ...`
    authstate-codex ANYTHING ...     runs `authstate run -- codex ANYTHING ...`

The real codex is `AUTHSTATE_CODEX` (a path, or a name to look up on PATH), or else the first `codex` on PATH that is
not this program. What needs no login, such as `codex --version`, replaces this process.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from authstate.adapters.child.command_line import overrides_of
from authstate.adapters.cli.codex_arguments import starts_app_server, uses_login
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.cli.main import replace_closed_streams, report_errors

VARIABLE = "AUTHSTATE_CODEX"


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
    return report_errors(lambda: _run(codex, arguments))


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


def _wrap(command: list[str]) -> int:
    from authstate.adapters.cli.wrap import wrap

    return wrap([], command)


def _run(codex: str, arguments: list[str]) -> int:
    """Run codex with a broker, or without one if it uses no login or the configuration is invalid: codex reports it."""
    from authstate.adapters.cli.exec_command import exec_command
    from authstate.adapters.config.home import ConfigError

    if uses_login(arguments):
        from authstate.adapters.cli.run import run

        try:
            return run(overrides_of(arguments), [codex, *arguments], is_codex=True)
        except ConfigError:
            pass
    sys.stdout.flush()
    return exec_command([codex, *arguments])


if __name__ == "__main__":
    sys.exit(main())
