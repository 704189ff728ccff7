"""The files with which systemd (a user unit) and launchd (an agent) keep a broker running."""

import plistlib
from collections.abc import Mapping, Sequence

from authstate.adapters.config.home import ConfigError

LAUNCHD_LABEL = "authstate.broker"
KEPT_VARIABLES = (
    "CODEX_HOME",
    "CODEX_APP_SERVER_LOGIN_ISSUER",
    "CODEX_APP_SERVER_LOGIN_CLIENT_ID",
    "CODEX_CA_CERTIFICATE",
    "AUTHSTATE_BROKER_SOCKET",
    "AUTHSTATE_REFRESH_TOKEN_URL",
    "AUTHSTATE_REVOKE_TOKEN_URL",
)
"""The variables that a unit takes along. None holds a secret, as the URL of a proxy may."""

_SYSTEMD = """\
# To use it: authstate broker --print-unit systemd > ~/.config/systemd/user/authstate-broker.service
#            systemctl --user enable --now authstate-broker
[Unit]
Description=authstate broker: one login for every codex of this user

[Service]
Type=exec
ExecStart={command}
{environment}Restart=on-failure
RestartSec=1
TimeoutStopSec=45
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy=default.target
"""


def systemd_unit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a user unit for systemd. Stopping it waits for a refresh token that is being spent.

    Args:
        command: the absolute path of the program, and its arguments.
        environment: the variables to set.

    Raises:
        ConfigError: a word or a variable cannot stand in a unit.
    """
    _ensure_printable(command, environment)
    lines = "".join(
        f"Environment={_quoted(f'{name}={value}', in_command=False)}\n" for name, value in environment.items()
    )
    return _SYSTEMD.format(command=" ".join(_quoted(word) for word in command), environment=lines)


def launchd_plist(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a launch agent for macOS: save it as ~/Library/LaunchAgents/authstate.broker.plist.

    Args:
        command: the absolute path of the program, and its arguments.
        environment: the variables to set.

    Raises:
        ConfigError: a word or a variable cannot stand in a unit.
    """
    _ensure_printable(command, environment)
    agent = {
        "Label": LAUNCHD_LABEL,
        "ProgramArguments": list(command),
        "EnvironmentVariables": dict(environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ProcessType": "Background",
        "ExitTimeOut": 45,
        "Umask": 0o077,
    }
    return plistlib.dumps(agent, sort_keys=False).decode()


def _ensure_printable(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse control characters, which XML cannot hold, and bytes that are not UTF-8. A line break is possible."""
    for word in (*command, *(f"{name}={value}" for name, value in environment.items())):
        if any(_is_unfit(letter) for letter in word):
            shown = "".join("\ufffd" if _is_unfit(letter) else letter for letter in word[:64])
            raise ConfigError(
                f"{shown!r} cannot stand in a unit, because it has a control character or is no UTF-8: use another name"
            )


def _is_unfit(letter: str) -> bool:
    return (ord(letter) < 0x20 and letter not in "\t\n") or "\x7f" <= letter < "\xa0" or "\ud800" <= letter < "\ue000"


def _quoted(word: str, *, in_command: bool = True) -> str:
    """Quote a word for systemd, which expands `%` everywhere and `$` in commands."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    if in_command:
        escaped = escaped.replace("$", "$$")
    is_plain = escaped == word and word and not set(word) & set(" \t'#;")
    return word if is_plain else f'"{escaped}"'
