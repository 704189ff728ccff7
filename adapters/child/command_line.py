"""The command of a `codex app-server` child that keeps its tokens in memory and stores nothing on disk."""

from collections.abc import Sequence

from authstate.adapters.config.override_arguments import find_overrides
from authstate.engine.model.errors import AuthstateError

STORE_KEY = "cli_auth_credentials_store"
EPHEMERAL = ("-c", f'{STORE_KEY}="ephemeral"')
SUBCOMMAND = "app-server"
_STDIO = "stdio://"


class CommandError(AuthstateError, ValueError):
    """The command cannot be wrapped. The message says why, and what to write."""


def ephemeral_command(command: Sequence[str]) -> list[str]:
    """Return the command with the setting that keeps the child away from auth.json, before its `app-server`.

    A setting of the same key in the command is removed: it says where the login is, and authstate keeps the login
    (`overrides_of` has it).

    Raises:
        CommandError: no word of the command is `app-server`, or the child would not serve on its standard input.
    """
    words = list(command)
    if words[:1] == [SUBCOMMAND]:
        raise CommandError(f"the command begins with `{SUBCOMMAND}`: write the program, too: `codex {SUBCOMMAND}`")
    if SUBCOMMAND not in words:
        raise CommandError(
            f"the command has no word `{SUBCOMMAND}`, before which the setting for its store belongs: write it as "
            f"`codex {SUBCOMMAND}`"
        )
    listen = _listen_of(words[words.index(SUBCOMMAND) + 1 :])
    if listen not in (None, _STDIO):
        raise CommandError(
            f"--listen {listen} is not possible here: the app-server must serve on {_STDIO}. Leave --listen out"
        )
    for start, end, override in list(find_overrides(words))[::-1]:
        if override.partition("=")[0].strip() == STORE_KEY:
            del words[start:end]
    place = words.index(SUBCOMMAND)
    return [*words[:place], *EPHEMERAL, *words[place:]]


def overrides_of(command: Sequence[str]) -> list[str]:
    """Return the `-c KEY=VALUE` settings in a command. Some count for authstate, too: forced logins, the backend."""
    return [override for _, _, override in find_overrides(command)]


def _listen_of(words: list[str]) -> str | None:
    """The value of the last `--listen`; None when there is none."""
    listen = None
    for index, word in enumerate(words):
        if word == "--listen" and index + 1 < len(words):
            listen = words[index + 1]
        elif word.startswith("--listen="):
            listen = word.partition("=")[2]
    return listen
