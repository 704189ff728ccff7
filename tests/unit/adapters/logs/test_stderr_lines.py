"""authstate's lines on a stream, for a program that asks for them: its own logging stays as it is."""

import io
import json
import logging
import re

import pytest
from unit.adapters.logs.conftest import Captured

from authstate.adapters.logs.loggers import library_logger, write_line
from authstate.adapters.logs.redaction import HIDDEN
from authstate.adapters.logs.stderr_lines import configure_logs
from authstate.testing import make_jwt

JWT = make_jwt(sub="somebody", email="person@example.com")
OPAQUE = "Qx7" * 20
ORDERS = "\x1b[2J\x07\x9b1m\r\u202e"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_has_a_time_a_level_and_members_without_secrets(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logs("info", as_json=as_json, stream=stream)
    write_line("engine", "debug", "not_shown", {})
    write_line("engine", "info", "shown", {"access_token": "abc-secret", "text": f"Bearer {OPAQUE}", "number": 1})
    [line] = stream.getvalue().splitlines()
    assert "abc-secret" not in line and OPAQUE not in line
    if as_json:
        entry = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", entry.pop("timestamp"))
        shown = {"event": "shown", "level": "info", "access_token": HIDDEN, "text": f"Bearer {HIDDEN}", "number": 1}
        assert entry == shown
    else:
        assert re.fullmatch(
            r"timestamp=[\dT:.-]+Z level=info event=shown access_token=\[redacted\] "
            r'text="Bearer \[redacted\]" number=1',
            line,
        )


@pytest.mark.parametrize("as_json", [False, True])
def test_a_warning_of_a_store_is_a_line_too(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logs(as_json=as_json, stream=stream)
    library_logger("stores").warning("the file is %s", JWT)
    try:
        raise ValueError(JWT)
    except ValueError:
        library_logger("stores").exception("failed")
    line, *more = stream.getvalue().splitlines()
    assert "ValueError" in "".join(more) and JWT not in stream.getvalue()
    if as_json:
        assert json.loads(line)["event"] == f"the file is {HIDDEN}"
        assert json.loads(line)["logger"] == "authstate.stores"
    else:
        assert line == f"level=WARNING logger=authstate.stores event='the file is {HIDDEN}'"


@pytest.mark.parametrize("as_json", [True, False])
def test_words_from_outside_do_not_reach_a_terminal_as_orders(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logs(as_json=as_json, stream=stream)
    write_line("engine", "warning", "told", {"error": f"it said{ORDERS}", "workspace": ORDERS})
    try:
        raise ValueError(ORDERS)
    except ValueError:
        write_line("engine", "error", "failed", {"exc_info": True})
        library_logger("stores").exception("lost %s", ORDERS)
    written = stream.getvalue()
    assert written.replace("\n", "").isprintable()
    assert "it said" in written and "ValueError: " in written


def test_the_lines_go_to_stderr_and_nowhere_else(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    write_line("engine", "info", "here", {})
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("event=here") == 1
    assert captured.records == []


def test_the_last_call_counts_and_can_be_undone() -> None:
    logger = logging.getLogger("authstate")
    before = (logger.level, logger.propagate)
    first, second = io.StringIO(), io.StringIO()
    undo_first = configure_logs("debug", stream=first)
    undo = configure_logs("info", stream=second)
    undo_first()
    write_line("engine", "info", "here", {})
    assert first.getvalue() == "" and second.getvalue().count("here") == 1
    undo()
    undo()
    write_line("engine", "error", "gone", {})
    assert "gone" not in second.getvalue()
    assert (logger.level, logger.propagate) == before
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="use one of debug"):
        configure_logs("loud")
