"""The workflow that writes the difference of the tables below a pull request: its steps, with a GitHub of ours."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.git_repository import GitRepository
from support.paths import REPO

yaml: Any = pytest.importorskip("yaml", reason="PyYAML of the test extra parses the workflow")

TEXT = (REPO / ".github" / "workflows" / "table-diff.yml").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOB = WORKFLOW["jobs"]["comment"]
MARK = "<!-- authstate table diff -->"
TABLE = (
    "from authstate.engine.machines.table import Row, Table\n"
    "T_TABLE = Table(name='t', title='T', states=('a', 'b'), initial='a', rows=(Row('go', ('a',), {}, 'go on'),))\n"
)
GH = """#!{python}
import json, os, pathlib, sys
arguments = sys.argv[1:]
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([os.environ.get("GH_TOKEN"), *arguments]) + "\\n")
if "--jq" in arguments:
    print((folder / "found").read_text(), end="")
for argument in arguments:
    if argument.startswith("body=@"):
        (folder / "body").write_text(pathlib.Path(argument[6:]).read_text())
"""


class Hub:
    """A pull request, what its steps do, and what they ask GitHub for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = GitRepository(folder / "origin")
        self.origin.commit({"engine/t.py": TABLE.format("'b'")})
        self.programs = folder / "programs"
        self.programs.mkdir()
        self._program("gh", GH.format(python=sys.executable, folder=str(folder)))
        self._program("authstate", f'#!/bin/sh\nexec {sys.executable} -m authstate.adapters.cli "$@"\n')
        (folder / "found").touch()

    def _program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def propose(self, target: str) -> None:
        """Open the pull request 7 with another table. The base branch goes on meanwhile."""
        self.origin.git("checkout", "--quiet", "-b", "topic")
        self.origin.commit({"engine/t.py": TABLE.format(target), "sitecustomize.py": "raise SystemExit('it ran')\n"})
        self.origin.git("update-ref", "refs/pull/7/head", "topic")
        self.origin.git("checkout", "--quiet", "main")
        self.origin.commit({"engine/other.py": TABLE.format("'a'").replace("name='t'", "name='other'")})

    def run(self) -> int:
        """Check the base branch out and run the steps. Return the status of the last one."""
        base = GitRepository(self.folder / "base")
        base.git("remote", "add", "origin", str(self.origin.folder))
        base.git("fetch", "--quiet", "origin", "main")
        base.git("checkout", "--quiet", "FETCH_HEAD")
        output = self.folder / "output"
        output.touch()
        environ = {**os.environ, "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}"}
        environ |= {"RUNNER_TEMP": str(self.folder), "GITHUB_OUTPUT": str(output), "NUMBER": "7", "PYTHONPATH": ""}
        self._step("Compare", base.folder, environ)
        outputs = dict(line.split("=") for line in output.read_text(encoding="utf-8").splitlines())
        environ |= {"STATUS": outputs["status"], "REPOSITORY": "authstate/authstate", "GH_TOKEN": "t-1"}
        return self._step("Comment", base.folder, environ)

    def _step(self, name: str, folder: Path, environ: dict[str, str]) -> int:
        [step] = [step for step in JOB["steps"] if step.get("name") == name]
        assert set(step["env"]) <= set(environ) | {"NUMBER"}
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
        assert name == "Comment" or done.returncode == 0, done.stderr
        return done.returncode

    def written(self) -> list[list[str]]:
        """The method and the address of each comment that was written."""
        calls = [json.loads(line) for line in (self.folder / "calls").read_text(encoding="utf-8").splitlines()]
        assert all(call[0] == "t-1" for call in calls)
        return [call[3:5] for call in calls if "--method" in call]

    @property
    def body(self) -> str:
        return (self.folder / "body").read_text(encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    for program in ("git", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return Hub(tmp_path)


def test_a_changed_table_is_told_in_a_comment(hub: Hub) -> None:
    hub.propose("'a'")
    assert hub.run() == 0
    assert hub.written() == [["POST", "repos/authstate/authstate/issues/7/comments"]]
    assert hub.body.startswith(f"{MARK}\n### State tables\n\n1 state table differs between ")
    assert "- Leads elsewhere: `go` in `a` leads to `a`. Before, it led to `b`." in hub.body
    assert "other" not in hub.body, "what the base branch added is no change of the pull request"


def test_the_next_push_replaces_the_comment(hub: Hub) -> None:
    (hub.folder / "found").write_text("41\n42\n", encoding="utf-8")
    hub.propose("'b'")
    assert hub.run() == 0
    assert hub.written() == [["PATCH", "repos/authstate/authstate/issues/comments/41"]]
    assert "No state table differs" in hub.body


def test_nothing_is_written_as_long_as_no_table_differs(hub: Hub) -> None:
    hub.propose("'b'")
    assert hub.run() == 0
    assert hub.written() == []


def test_a_table_that_cannot_be_read_fails_the_check_and_runs_nothing(hub: Hub) -> None:
    hub.propose("exit(0)")
    assert hub.run() == 1
    assert hub.written() == [["POST", "repos/authstate/authstate/issues/7/comments"]]
    assert "The state tables cannot be compared" in hub.body


def test_the_workflow_has_few_rights_and_runs_nothing_of_a_pull_request() -> None:
    assert WORKFLOW[True] == {"pull_request_target": None}  # YAML reads `on` as true
    assert WORKFLOW["permissions"] == {}
    assert JOB["permissions"] == {"contents": "read", "pull-requests": "write"}
    [checkout] = [step for step in JOB["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] is False
    assert "secrets." not in TEXT
    for step in JOB["steps"]:
        assert "${{" not in step.get("run", ""), "the text of a pull request would be part of the script"
        assert "GH_TOKEN" not in step.get("env", {}) or step["name"] == "Comment"
