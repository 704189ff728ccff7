"""A git repository of a test."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    **{f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class GitRepository:
    """A repository in a folder, which is made.

    Args:
        folder: its top.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        """Run git here and return what it prints."""
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=_ENVIRON, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Commit files with these texts. None removes one. Return the hash."""
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD")
