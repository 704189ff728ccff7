"""The programs of authstate write everything to standard error: their own lines, and the warnings of others."""

import logging

import pytest
from unit.adapters.logs.conftest import Captured, unconfigured

from authstate.adapters.logs.loggers import library_logger, write_line
from authstate.adapters.logs.program import configure_program_logs, keep_warnings_on_stderr
from authstate.testing import make_jwt

JWT = make_jwt(sub="somebody")


def test_warnings_are_plain_text_before_the_log_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    with unconfigured():
        keep_warnings_on_stderr()
        keep_warnings_on_stderr()
        library_logger("stores").warning("the file can be read by %s", "others")
        library_logger("stores").info("not shown")
    assert capsys.readouterr() == ("", "the file can be read by others\n")


def test_other_libraries_are_written_once_and_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    with unconfigured():
        keep_warnings_on_stderr()
    configure_program_logs("info")
    configure_program_logs("info")
    logging.getLogger("asyncio").error("lost %s", JWT)
    logging.getLogger("httpx").info("not shown")
    library_logger("stores").warning("the file can be read by %s", "others")
    write_line("engine", "info", "here", {})
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[:2] == [
        "level=ERROR logger=asyncio event='lost [redacted]'",
        "level=WARNING logger=authstate.stores event='the file can be read by others'",
    ]
    [line] = shown.err.splitlines()[2:]
    assert line.endswith("level=info event=here")


def test_a_command_in_a_process_with_its_own_logging_leaves_it_alone(captured: Captured) -> None:
    keep_warnings_on_stderr()
    library_logger("stores").warning("the file can be read by %s", "others")
    assert [handler for handler in logging.getLogger("authstate").handlers if handler is logging.lastResort] == []
    assert [one.getMessage() for one in captured.records] == ["the file can be read by others"]
