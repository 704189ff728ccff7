"""How long a refresh that the issuer has accepted is in no file: a kill in that window loses it. At most 5 ms."""

import json
import subprocess

from support.module_commands import command_of, with_tests


def test_accepted_tokens_are_stored_within_five_milliseconds() -> None:
    done = subprocess.run(
        command_of("faults.kill_sweep", "--kills", "40"),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env=with_tests(),
    )
    window = json.loads(done.stdout)["window_ms"]
    print(f"from the issuer's acceptance to the rename: {window}")
    assert window["median"] <= 5.0
