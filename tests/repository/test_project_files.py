"""The files that GitHub and pre-commit read: they parse, and run what CI and the project have."""

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from support.paths import REPO

yaml: Any = pytest.importorskip("yaml", reason="PyYAML of the test extra parses these files")

FILES = sorted([*(REPO / ".github").rglob("*.yml"), REPO / ".pre-commit-config.yaml"])
WORKFLOW = REPO / ".github" / "workflows" / "ci.yml"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_yaml(path: Any) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_workflow_runs_ci_and_every_python_of_the_classifiers() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    steps = [step.get("run", "") for step in jobs["everything"]["steps"]]
    assert jobs["everything"]["runs-on"] == "ubuntu-latest"
    assert ".ci/run" in steps
    matrix = jobs["portable"]["strategy"]["matrix"]
    assert set(matrix["os"]) == {"macos-latest", "windows-latest"}
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert matrix["python"] == named


def test_pre_commit_runs_the_tools_of_the_project() -> None:
    [local] = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"
    tools = {hook["id"]: hook["entry"] for hook in local["hooks"]}
    assert set(tools) == {"ruff-check", "ruff-format", "codespell", "mypy", "pyright", "diagrams"}
    assert all(entry.startswith(".venv/bin/") for entry in tools.values())


def test_issue_forms_have_what_github_needs() -> None:
    for path in (REPO / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert form["name"] and form["description"]
            assert all(item["type"] in ("markdown", "textarea", "input") for item in form["body"])


def test_no_word_is_misspelt() -> None:
    checked = subprocess.run([sys.executable, "-m", "codespell_lib"], cwd=REPO, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
