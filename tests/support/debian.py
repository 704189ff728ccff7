"""Installs programs that tests need from Debian packages, with apt-get, if they are missing."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.codex_binaries import CannotInstall


def chromium() -> Path:
    """Install Chromium if it is missing. Returns its path. Raises CannotInstall."""
    install(("chromium",), ("chromium",))
    found = shutil.which("chromium")
    assert found is not None
    return Path(found)


def gnome_keyring() -> None:
    """Install gnome-keyring and D-Bus if they are missing. Raises CannotInstall."""
    install(("gnome-keyring-daemon", "dbus-run-session"), ("gnome-keyring", "dbus"))


def systemd_analyze() -> None:
    """Install systemd-analyze if it is missing. Raises CannotInstall."""
    install(("systemd-analyze",), ("systemd",))


def tmux() -> None:
    """Install tmux if it is missing. Raises CannotInstall."""
    install(("tmux",), ("tmux",))


def xvfb() -> Path:
    """Install Xvfb, an X server with a screen in memory, if it is missing. Returns its path. Raises CannotInstall."""
    install(("Xvfb",), ("xvfb",))
    found = shutil.which("Xvfb")
    assert found is not None
    return Path(found)


def bubblewrap() -> None:
    """Install bubblewrap if it is missing. Raises CannotInstall: also if it may not make namespaces here."""
    install(("bwrap", "setpriv"), ("bubblewrap", "util-linux"))
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise CannotInstall(f"bubblewrap cannot make namespaces here: {done.stderr.strip()}")


def faketime() -> Path:
    """Install libfaketime if it is missing. Returns the library to preload. Raises CannotInstall."""
    install(("faketime",), ("faketime",))
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise CannotInstall("faketime is installed, and its library is not where Debian puts it")
    return found[0]


def pgbouncer() -> Path:
    """Install pgbouncer if it is missing. Returns its path. Raises CannotInstall."""
    found = Path("/usr/sbin/pgbouncer")  # not on the PATH of everybody
    if not found.exists():
        install(("pgbouncer",), ("pgbouncer",))
    return found


def spin() -> None:
    """Install Spin and the C compiler that its verifiers need, if they are missing. Raises CannotInstall."""
    install(("spin", "gcc"), ("spin", "gcc", "libc6-dev"))


def install(programs: Sequence[str], packages: Sequence[str], *, timeout: float = 240) -> None:
    """Install programs that are missing from the PATH.

    Args:
        programs: their names.
        packages: the packages that contain them.
        timeout: seconds for each of the two steps, `apt-get update` and `apt-get install`.

    Raises:
        CannotInstall: a program is missing, and there is no apt-get, this user is not root, or apt-get failed.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CannotInstall(f"not installed: {', '.join(missing)}; only root can install packages, with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = " ".join(packages)
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", *packages)):
        command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60", *arguments]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"apt-get did not install {wanted} within {timeout:g} seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotInstall(f"apt-get could not install {wanted}: {last}")
