"""Installs real codex binaries from npm, once for each version, in the user's cache."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from authstate.adapters.conformance import differences

OLD, NEW = differences.OLD, differences.NEW
VERSIONS = differences.VERSIONS
"""The first release with external tokens, and the current one."""

_TARGETS = {
    ("Linux", "x86_64"): "x86_64-unknown-linux-musl",
    ("Linux", "aarch64"): "aarch64-unknown-linux-musl",
    ("Darwin", "x86_64"): "x86_64-apple-darwin",
    ("Darwin", "arm64"): "aarch64-apple-darwin",
    ("Windows", "AMD64"): "x86_64-pc-windows-msvc",
}


class CannotInstall(Exception):
    """A program that a test needs cannot be installed. The message gives the reason."""


def cache_folder() -> Path:
    """The folder of installed programs, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "authstate-tests"


def install(version: str) -> Path:
    """The path of the `codex` binary of a version. It is installed from npm if it is not in the cache.

    Raises:
        CannotInstall: no npm, no network, or no binary for this machine.
    """
    cache = cache_folder() / f"codex-{version}"
    found = _binary(cache)
    if found is None:
        npm_install(f"@openai/codex@{version}", cache)
        found = _binary(cache)
    if found is None:
        raise CannotInstall(f"npm brought no codex {version} for {platform.system()} {platform.machine()}")
    return found


def _binary(folder: Path) -> Path | None:
    target = _TARGETS.get((platform.system(), platform.machine()), "no-such-target")
    name = "codex.exe" if platform.system() == "Windows" else "codex"
    places = sorted((folder / "node_modules").rglob(f"vendor/{target}/*/{name}"))
    return next((place for place in places if place.is_file()), None)


def npm_install(package: str, folder: Path, *options: str) -> None:
    """Install an npm package into a folder.

    Args:
        package: its name and version.
        folder: made if it is missing.
        options: of `npm install`.

    Raises:
        CannotInstall: there is no npm, or it failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise CannotInstall(f"{package} is not in the cache, and there is no npm to install it with")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", *options, "--prefix", str(folder), package]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"npm did not install {package} within 240 seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotInstall(f"npm could not install {package}: {last}")


PINNED = (OLD, "0.120.0", "0.150.0", NEW, "0.171.0")
"""Releases whose account API is known from their schemas."""


def newest() -> str:
    """The newest release on npm. If npm cannot be asked, the newest of `PINNED`."""
    npm = shutil.which("npm")
    if npm is not None:
        command = [npm, "view", "@openai/codex", "version"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return PINNED[-1]
        version = done.stdout.strip()
        if done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+", version):
            return version
    return PINNED[-1]
