"""Reads a command line of codex as far as `authstate-codex` must understand it.

`codex --oss app-server` starts an app-server; in `codex -p app-server`, the word is the name of a profile. Releases
differ in which options take a value. So the codex that would be started is asked (`codex --help`), if it matters.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from authstate.adapters.child.command_line import SUBCOMMAND
from authstate.adapters.io.child_environment import child_environment

_WITH_VALUE = frozenset({"-c", "--config", "--listen"})
"""Options of every release that are common and take a value: codex is not asked about them."""
_PRINT_AND_END = frozenset({"-h", "--help", "-V", "--version", "--print-startup-config"})
"""Options that print something, after which codex ends. The help does not mark them, hence this list. If one is missing
here, `wrap` passes through what it prints, and ends with it."""
_WITHOUT_LOGIN = frozenset(
    {"login", "logout", "completion", "help", "features", "sandbox", "debug", "update", "doctor"}
)
"""Subcommands that send no request to the backend. If one is missing here, it runs with a
broker, which is needless and harmless. Names of future releases need not be added."""
NO_DAEMON = "--no-daemon"
_NOT_OWN_SERVER = frozenset({NO_DAEMON, "--remote"})
_IN_TERMINAL = frozenset({"resume", "fork", "agents"})
"""Subcommands that are the terminal program, too."""
_NAME_OF_CODEX = re.compile(r"codex(-(x86_64|aarch64)-[\w-]+)?(\.exe|\.cmd)?")
"""The program as npm and Homebrew install it, or as it is downloaded for one kind of machine."""
_SUBCOMMAND = re.compile(r"^  ([a-z][\w-]*)  ", re.MULTILINE)
_ALIASES = re.compile(r"\[aliases: ([\w, -]+)\]")
_HELP_WITHIN = 10.0  # seconds
_OPTION_WITH_VALUE = re.compile(r"^ +(?:(-\w), )?(--[\w-]+)[ =]<[^>\n]*>(\.\.\.)?", re.MULTILINE)
_END_OF_OPTIONS = "--"
_ALL = sys.maxsize
"""The number of values of an option that takes all words up to the next option, such as `--image`."""


def starts_app_server(arguments: Sequence[str], codex: str) -> bool:
    """Return whether a command line starts an app-server.

    `app-server generate-ts` and its like do not: they print something and end.

    Args:
        arguments: the words after `codex`.
        codex: the path of the real codex, which is asked about its options if they leave doubt.
    """
    if SUBCOMMAND not in arguments:
        return False

    def values_of(option: str, before: list[str]) -> int:
        return options_with_value(codex, *before).get(option, 0) if before in ([], [SUBCOMMAND]) else 0

    positional, only_prints = _read(arguments, values_of)
    return positional == [SUBCOMMAND] and not only_prints


def uses_login(arguments: Sequence[str]) -> bool:
    """Return whether a command line starts something that may send requests to the backend. In doubt it does."""
    positional, only_prints = _read(arguments, lambda option, before: 1)
    return not only_prints and not (positional and positional[0] in _WITHOUT_LOGIN)


def _read(arguments: Sequence[str], values_of: Callable[[str, list[str]], int]) -> tuple[list[str], bool]:
    """Return the words that are neither options nor their values, and whether an option only prints something.

    Words after `--` follow a `--` there: none of them is a subcommand.

    Args:
        arguments: the words after `codex`.
        values_of: how many of the next words can be values of an option. Called with the option and the positional
            words before it. It is not called for options that no word follows.
    """
    positional: list[str] = []
    only_prints = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == _END_OF_OPTIONS:
            positional += [word, *rest] if rest else []
            break
        if word in _PRINT_AND_END:
            only_prints = True
        elif not word.startswith("-"):
            positional.append(word)
        elif word in _WITH_VALUE:
            del rest[:1]
        else:
            has_word_after = "=" not in word and bool(rest) and not rest[0].startswith("-")
            values = values_of(word, positional) if has_word_after else 0
            while values > 0 and rest and not rest[0].startswith("-"):
                del rest[:1]
                values -= 1
    return positional, only_prints


def without_daemon(command: Sequence[str], *, is_codex: bool | None = None) -> list[str]:
    """Return a command whose terminal program refreshes tokens itself, if it is the terminal program of codex.

    From 0.169.0 on, it leaves that to a daemon, which keeps the environment of whoever started it first: it would ask
    another broker, or none, and go on after this one has ended (measured). `--no-daemon` prevents that. Earlier
    releases have no such option, and need none.

    Args:
        command: a program and its arguments. Any but codex is returned unchanged.
        is_codex: whether the program is codex. By default its name decides.
    """
    words = list(command)
    if is_codex is None:
        is_codex = _NAME_OF_CODEX.fullmatch(os.path.basename(words[0]).lower()) is not None
    if not is_codex or not starts_terminal_program(words[1:], words[0]):
        return words
    return [words[0], *([NO_DAEMON] if NO_DAEMON in _help(words[0]) else []), *words[1:]]


def starts_terminal_program(arguments: Sequence[str], codex: str) -> bool:
    """Return whether a command line of codex starts its terminal program with a server of its own.

    Args:
        arguments: the words after `codex`.
        codex: the program, which is asked for its subcommands and options.
    """
    words = list(arguments)
    options = words[: words.index(_END_OF_OPTIONS)] if _END_OF_OPTIONS in words else words
    if _NOT_OWN_SERVER & {word.partition("=")[0] for word in options}:
        return False
    positional, only_prints = _read(words, lambda option, before: options_with_value(codex).get(option, 0))
    page = _help(codex)
    aliases = [name for names in _ALIASES.findall(page) for name in names.split(", ")]
    is_subcommand = bool(positional) and positional[0] in (*_SUBCOMMAND.findall(page), *aliases)
    return not only_prints and (not is_subcommand or positional[0] in _IN_TERMINAL)


@lru_cache
def options_with_value(codex: str, *subcommand: str) -> Mapping[str, int]:
    """Return the options that take a value, as the help of codex lists them, and how many words can be their values.

    Empty if codex cannot be asked.
    """
    found = _OPTION_WITH_VALUE.findall(_help(codex, *subcommand))
    return {name: _ALL if many else 1 for short, long, many in found for name in (short, long) if name}


@lru_cache
def _help(codex: str, *subcommand: str) -> str:
    """Return the help of codex or of a subcommand. Empty if codex cannot be asked."""
    try:
        answer = subprocess.run(
            [codex, *subcommand, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            timeout=_HELP_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace")
