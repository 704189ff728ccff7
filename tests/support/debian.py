"""Programs for the tests that come as packages of Debian: installed with apt-get where they are missing."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from support.codex_binaries import CannotInstall


def install(programs: Sequence[str], packages: Sequence[str], *, timeout: float = 240) -> None:
    """See that these programs are there, from Debian's archive if need be.

    Args:
        programs: what is looked for on the PATH.
        packages: what brings them.
        timeout: seconds, for each of the two steps.

    Raises:
        CannotInstall: they are missing, and this is no Debian, not root, or apt-get failed.
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
