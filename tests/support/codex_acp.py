"""Installs codex-acp, the ACP agent for codex, from npm, once, without the codex binary that it can bring."""

import shutil

from support.codex_binaries import CannotInstall, cache_folder, npm_install

_PACKAGE = "@agentclientprotocol/codex-acp"
_RELEASE = "2.6.0"


def install() -> list[str]:
    """The command that starts the agent. It is installed from npm if it is not in the user's cache.

    Raises:
        CannotInstall: there is no Node.js, no npm or no network.
    """
    node = shutil.which("node")
    if node is None:
        raise CannotInstall("codex-acp needs Node.js, and there is none on the PATH")
    folder = cache_folder() / f"codex-acp-{_RELEASE}"
    program = folder / "node_modules" / _PACKAGE / "dist" / "index.js"
    if not program.is_file():
        npm_install(f"{_PACKAGE}@{_RELEASE}", folder, "--omit=optional")
    if not program.is_file():
        raise CannotInstall(f"npm brought no codex-acp {_RELEASE}")
    return [node, str(program)]
