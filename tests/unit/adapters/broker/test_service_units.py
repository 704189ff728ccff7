"""The unit for systemd and the agent for launchd."""

import plistlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.real_parts import RealParts

from authstate.adapters.broker.service_units import launchd_plist, systemd_unit
from authstate.adapters.config import ConfigError

COMMAND = ["/bin/echo", "broker", "-c", 'a = "50% of $HOME; # \\ x"', "--listen", "127.0.0.1:4517"]
VARIABLES = {"CODEX_HOME": "/home/a person/.codex", "CODEX_CA_CERTIFICATE": "/etc/50%.pem"}


def test_systemd_accepts_the_unit(real_parts: RealParts, tmp_path: Path) -> None:
    real_parts.systemd_analyze()
    unit = tmp_path / "authstate-broker.service"
    unit.write_text(systemd_unit(COMMAND, VARIABLES))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--user", str(unit)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_words_are_quoted_for_systemd() -> None:
    lines = systemd_unit(COMMAND, VARIABLES).splitlines()
    assert 'ExecStart=/bin/echo broker -c "a = \\"50%% of $$HOME; # \\\\ x\\"" --listen 127.0.0.1:4517' in lines
    assert 'Environment="CODEX_HOME=/home/a person/.codex"' in lines
    assert 'Environment="CODEX_CA_CERTIFICATE=/etc/50%%.pem"' in lines
    assert not any(line.startswith("Environment=") for line in systemd_unit(COMMAND, {}).splitlines())


@pytest.mark.parametrize("make", [systemd_unit, launchd_plist])
@pytest.mark.parametrize("letter", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x9b", "\udcff"])
def test_what_cannot_stand_in_a_unit(make: Callable[..., str], letter: str) -> None:
    for command, variables in (([*COMMAND, f"a{letter}b"], {}), (COMMAND, {"CODEX_HOME": f"a{letter}b"})):
        with pytest.raises(ConfigError, match="a\ufffdb' cannot stand in a unit, because it has a control character"):
            make(command, variables)


@pytest.mark.parametrize("make", [systemd_unit, launchd_plist])
def test_a_line_break_in_an_override_can(make: Callable[..., str]) -> None:
    assert make([*COMMAND, "-c", 'a = """\n\tb"""'], {})


def test_launchd_gets_a_property_list() -> None:
    agent = plistlib.loads(launchd_plist(COMMAND, VARIABLES).encode())
    assert agent["Label"] == "authstate.broker"
    assert agent["ProgramArguments"] == COMMAND
    assert agent["EnvironmentVariables"] == VARIABLES
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
