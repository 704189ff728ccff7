"""Lines that a person pastes at a terminal while the command waits: read beside the event loop, and not shown."""

import asyncio
import os
import select
import sys
from collections.abc import Iterator

import pytest
from support.login_harness import until

if sys.platform == "win32":
    pytest.skip("pseudo-terminals", allow_module_level=True)

import pty
import termios

from authstate.adapters.cli.hidden_input import HiddenInput
from authstate.adapters.cli.pasted_lines import PastedLines


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The person's side, and the program's."""
    person, program = pty.openpty()
    yield person, program
    for descriptor in (person, program):
        try:
            os.close(descriptor)
        except OSError:
            continue


def is_shown(descriptor: int) -> bool:
    return bool(termios.tcgetattr(descriptor)[3] & termios.ECHO)


async def test_lines_are_taken_and_not_shown(terminal: tuple[int, int]) -> None:
    person, program = terminal
    taken: list[str] = []
    paste = PastedLines(program, taken.append)
    paste.look()
    paste.look()
    assert paste.is_reading and not is_shown(program)
    os.write(person, b"  one two \n\nthr\xffee\n")
    await until(lambda: len(taken) == 2)
    assert taken == ["one two", "thr\ufffdee"]
    paste.close()
    paste.close()
    assert not paste.is_reading and is_shown(program)
    os.set_blocking(person, False)
    with pytest.raises(BlockingIOError):
        os.read(person, 100)


async def test_nothing_that_was_typed_and_not_read_is_left_for_the_shell(terminal: tuple[int, int]) -> None:
    person, program = terminal
    before = termios.tcgetattr(program)
    hidden = HiddenInput(program)
    hidden.hide()
    assert termios.tcgetattr(program)[3] & termios.NOFLSH, "else Linux decides about ^C after it sent the signal"
    os.write(person, b"http://localhost:1455/auth/callback?code=...\n")
    assert select.select([program], [], [], 20)[0]
    hidden.show()
    assert termios.tcgetattr(program) == before
    os.set_blocking(program, False)
    with pytest.raises(BlockingIOError):
        os.read(program, 100)


async def test_a_program_in_the_background_leaves_the_terminal_alone(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal would stop it."""
    person, program = terminal
    group, taken = [os.getpgrp() + 1], list[str]()
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: group[0])
    paste = PastedLines(program, taken.append)
    paste.look()
    assert not paste.is_reading and is_shown(program)
    group[0] = os.getpgrp()
    paste.look()
    assert paste.is_reading and not is_shown(program)
    group[0] += 1
    os.write(person, b"of the shell\n")
    await until(lambda: not paste.is_reading)
    paste.close()
    assert not is_shown(program), "whoever is in the foreground owns the settings"
    group[0] -= 1
    paste.look()
    await until(lambda: taken == ["of the shell"])
    paste.close()
    assert is_shown(program)


@pytest.mark.parametrize("end", ["Ctrl-D", "hang-up"])
async def test_an_end_of_the_input_is_no_end_of_the_waiting(terminal: tuple[int, int], end: str) -> None:
    person, program = terminal
    paste = PastedLines(program, list[str]().append)
    paste.look()
    if end == "Ctrl-D":
        os.write(person, b"\x04")
    else:
        os.close(person)
    await until(lambda: not paste.is_reading)
    paste.close()


async def test_where_the_loop_cannot_watch_a_terminal_nothing_is_read(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    paste = PastedLines(terminal[1], list[str]().append)
    paste.look()
    assert not paste.is_reading and is_shown(terminal[1])
    paste.close()
