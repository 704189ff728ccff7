"""How long a refresh that the issuer has accepted is in no file: a kill in that window loses it. At most 5 ms."""

import json
import subprocess
import sys
from pathlib import Path

SWEEP = Path(__file__).parent.parent / "faults" / "kill_sweep.py"


def test_accepted_tokens_are_stored_within_five_milliseconds() -> None:
    done = subprocess.run(
        [sys.executable, str(SWEEP), "--kills", "40"], capture_output=True, text=True, timeout=200, check=True
    )
    window = json.loads(done.stdout)["window_ms"]
    print(f"from the issuer's acceptance to the rename: {window}")
    assert window["median"] <= 5.0
