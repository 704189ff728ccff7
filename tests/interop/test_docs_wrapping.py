"""The Python program in docs/wrapping.md, exactly as it stands there: the SDK with `authstate-codex` for its codex."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.codex_binaries import NEW
from support.codex_turns import model_config
from support.paths import REPO
from support.wire_client import clean_environment

from authstate.testing import LoopbackIssuer

PAGE = REPO / "docs" / "wrapping.md"


def test_the_sdk_runs_a_turn(
    sdk: Any, binaries: dict[str, Path], make_home: Callable[..., Path], issuer: LoopbackIssuer
) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    home = make_home(email="person@example.com", config=model_config(issuer))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = clean_environment(home, **issuer.environment, PATH=path, AUTHSTATE_CODEX=str(binaries[NEW]))
    environment["PYTHONPATH"] = str(Path(sdk.__file__).parents[1])
    issuer.expire_access()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "person@example.com" in done.stdout
    assert done.stdout.endswith("You said: hello\n")
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
