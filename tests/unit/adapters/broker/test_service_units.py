"""The unit for systemd and the agent for launchd."""

import plistlib
import subprocess
from pathlib import Path

from support.real_parts import RealParts

from authstate.adapters.broker.service_units import launchd_plist, systemd_unit

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


def test_launchd_gets_a_property_list() -> None:
    agent = plistlib.loads(launchd_plist(COMMAND, VARIABLES).encode())
    assert agent["Label"] == "authstate.broker"
    assert agent["ProgramArguments"] == COMMAND
    assert agent["EnvironmentVariables"] == VARIABLES
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
