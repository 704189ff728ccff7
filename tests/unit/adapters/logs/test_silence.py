"""A program without a logging configuration gets no lines, and structlog is not imported."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, logging, sys
from authstate import AuthstateError, open_engine, redact_event, log_events
from authstate.testing import FakeAuthority

{configure}

async def main():
    authority = FakeAuthority()
    async with open_engine(home=sys.argv[1], authority=authority) as engine:
        log_events(engine)
        await engine.complete_chatgpt_login(authority.issue())
        await engine.refresh()
        authority.kill()
        try:
            await engine.refresh()
        except AuthstateError:
            pass

asyncio.run(main())
root = logging.getLogger()
print("structlog" in sys.modules, root.level, [type(one).__name__ for one in root.handlers])
"""


def run(home: Path, configure: str) -> tuple[str, str]:
    """What the program prints, and what it writes to standard error."""
    command = [sys.executable, "-c", PROGRAM.format(configure=configure), str(home)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout, ran.stderr


def test_a_dead_login_is_silent_and_structlog_is_not_imported(tmp_path: Path) -> None:
    assert run(tmp_path, "") == ("False 30 []\n", "")


def test_the_handlers_of_the_program_get_each_line_once(tmp_path: Path) -> None:
    said, lines = run(tmp_path, "logging.basicConfig(level=logging.INFO)")
    assert said == "True 20 ['StreamHandler']\n"
    events = [line.split()[0] for line in lines.splitlines()]
    assert events.count("ERROR:authstate.engine:refresh_failed") == 1
    assert events.count("INFO:authstate.engine:state_changed") == 3


def test_a_program_without_handlers_may_ask_for_the_lines(tmp_path: Path) -> None:
    said, lines = run(tmp_path, "from authstate import configure_logs; configure_logs('error')")
    assert said == "True 30 []\n"
    assert lines.count("event=refresh_failed") == len(lines.splitlines()) == 1
