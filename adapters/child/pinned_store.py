"""Finds an administrator's file that opens the stored login to a child, whatever `-c` says, before the child starts.

`/etc/codex/managed_config.toml` and `/etc/codex/requirements.toml` win over `cli_auth_credentials_store="ephemeral"`.
A child that obeys such a file reads the login that authstate keeps. It refreshes a token within a second of its start:
0.169.0 and 0.171.0 an expired one, 0.93.0 one that is some days old, even before it answers `initialize`. When it signs
out, it deletes the login; from 0.150.0 on it revokes it, too. (Measured with 0.93.0, 0.120.0, 0.150.0, 0.169.0 and
0.171.0. 0.93.0 and 0.120.0 ignore requirements.toml.) A child whose home is another folder, in which nobody signed in,
does no harm.
"""

import os
from collections.abc import Mapping, Sequence

from authstate.adapters.child.command_line import STORE_KEY, SUBCOMMAND
from authstate.adapters.config.config_files import MANAGED, REQUIRED, SYSTEM_FOLDER, read_system_table
from authstate.adapters.config.home import ConfigError, find_home

_HARMLESS = "ephemeral"
_HOME = "CODEX_HOME="
_TRANSPARENT = frozenset({"env", "sudo", "doas", "nice", "nohup", "setsid", "stdbuf", "time", "exec"})
"""Programs that start another one on this machine."""
_ELSEWHERE = frozenset(
    {
        *("ssh", "mosh", "docker", "podman", "nerdctl", "kubectl", "oc", "lxc", "incus", "machinectl", "wsl"),
        *("distrobox", "toolbox", "vagrant", "multipass", "limactl", "gcloud", "devcontainer"),
    }
)
"""Programs that start another one where /etc/codex is not this machine's."""


def refuse_pinned_store(
    command: Sequence[str],
    environ: Mapping[str, str],
    ours: Mapping[str, str] | None = None,
    system: str | None = SYSTEM_FOLDER,
) -> None:
    """Return if a child that is started like this cannot open the login that authstate keeps.

    Args:
        command: of the child, with the word `app-server`.
        environ: of the child.
        ours: the environment that names authstate's home; by default the same.
        system: the administrator's folder; None when there is none.

    Raises:
        ConfigError: an administrator's file lets it open the login, or cannot be read. The message says what to do.
    """
    words = list(command)
    words = words[: words.index(SUBCOMMAND)] if SUBCOMMAND in words else words
    pinned = _pinned(system)
    if pinned is None or _is_elsewhere(words):
        return
    path, value = pinned
    home = str(find_home(environ if ours is None else ours))
    named = [word[len(_HOME) :] for word in words if word.startswith(_HOME)]
    if named and named[-1]:
        childs = os.path.realpath(named[-1])
    else:  # an empty value counts as none
        childs = str(find_home({**environ, "CODEX_HOME": ""} if named else environ))
    if childs != home:
        return
    raise ConfigError(
        f"{path} sets {STORE_KEY} to {value}, which codex obeys whatever authstate tells it: the app-server would open "
        "the login that authstate keeps, and could spend or delete it, so it was not started. Keep the login in "
        f"another folder: sign out of {home} with `codex logout`, make FOLDER, run `CODEX_HOME=FOLDER authstate login` "
        f"and start `CODEX_HOME=FOLDER authstate wrap -- env CODEX_HOME={home} codex app-server`. Or ask your "
        f"administrator to remove {STORE_KEY} from that file"
    )


def _pinned(system: str | None) -> tuple[str, object] | None:
    """The administrator's file that opens a stored login to some release of codex, and the value in it."""
    for name in (MANAGED, REQUIRED):
        if found := read_system_table(system, name):
            path, table = found
            if table.get(STORE_KEY, _HARMLESS) != _HARMLESS:
                return path, repr(table[STORE_KEY])
    return None


def _is_elsewhere(words: Sequence[str]) -> bool:
    """Whether the command starts the child on another machine or in a container."""
    for word in words:
        name = os.path.basename(word).lower().removesuffix(".exe")
        if name in _ELSEWHERE:
            return True
        if name not in _TRANSPARENT and "=" not in word and not word.startswith("-"):
            return False
    return False
