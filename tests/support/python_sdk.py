"""Installs OpenAI's Python packages from PyPI, once: the SDK of codex, without the codex binary that it depends on, and
the client of its API.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.codex_binaries import CannotInstall, cache_folder

RELEASE = "0.163.0"
API_CLIENT = "3.57.0"
_NEEDED = ("pydantic>=2.12,<3", "packaging>=26.2")


def install() -> Path:
    """The folder from which the SDK can be imported. It is installed from PyPI if it is not in the user's cache.

    Raises:
        CannotInstall: there is no pip, no network, or no such release.
    """
    return _installed(f"openai-codex-{RELEASE}", ("--no-deps", f"openai-codex=={RELEASE}"), _NEEDED)


def install_api_client() -> Path:
    """The folder from which the package `openai` can be imported, like `install`. Raises CannotInstall."""
    return _installed(f"openai-{API_CLIENT}", (f"openai=={API_CLIENT}",))


def _installed(name: str, *steps: tuple[str, ...]) -> Path:
    folder = cache_folder() / f"{name}-python-{sys.version_info.major}.{sys.version_info.minor}"
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        try:
            for step in steps:
                _pip_install(unfinished, *step)
            unfinished.rename(folder)
        except OSError:  # another run was faster
            pass
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _pip_install(folder: Path, *what: str) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-input", "--target", str(folder))
    command = [sys.executable, "-m", "pip", "install", *options, *what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"pip did not install {what[-1]} within 120 seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotInstall(f"pip could not install {what[-1]}: {last}")
