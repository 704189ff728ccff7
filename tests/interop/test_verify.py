"""`authstate verify` on a real codex: it passes what codex does as it should, and names what differs."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW, OLD

from authstate.adapters.cli.main import main


@pytest.mark.parametrize(
    ("version", "actions", "status", "expected"),
    [
        (NEW, "api-key,restart,external,api-key,log-out", 0, {"login/refused/external": "passed"}),
        (OLD, "api-key,restart,external,api-key,log-out", 0, {"login/api-key/order": "passed"}),
        (NEW, "api-key,blank-key", 0, {"input/blank-key": "differs as documented"}),
        (OLD, "given-chatgpt,start,refresh-rejected", 1, {"refresh/permanent/never-retried": "failed"}),
    ],
)
def test_a_history_of_codex(
    version: str,
    actions: str,
    status: int,
    expected: dict[str, str],
    binaries: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = main(["verify", "--json", "--history", actions, "--", str(binaries[version]), "app-server"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert f"/{version} " in report["userAgent"]
    assert {name: found[name] for name in expected} == expected
    assert done == status
