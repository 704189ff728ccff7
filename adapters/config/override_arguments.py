"""Finds the `-c KEY=VALUE` arguments of codex, which authstate takes in the same forms. layers.py reads KEY=VALUE.

    -c KEY=VALUE    --config KEY=VALUE    --config=KEY=VALUE    -cKEY=VALUE    -c=KEY=VALUE

`--account NAME` and `--account=NAME` are authstate's own, and stand for `-c authstate.account="NAME"`. In the command
of a child they are the child's.

argparse reads them for the commands that need no fast start. It cannot read the command of a child, whose other
arguments it does not know, and importing it would delay the first answer of `app-server`.
"""

from collections.abc import Iterator, Sequence

ACCOUNT = "--account"


def override_at(words: Sequence[str], index: int) -> tuple[str, int] | None:
    """Read the override that begins at a word.

    Returns:
        The override, without its option, and the index after it. None if no override begins there, or if its value is
        missing.
    """
    word = words[index]
    if word in ("-c", "--config"):
        return (words[index + 1], index + 2) if index + 1 < len(words) else None
    if word.startswith("--config="):
        return word.partition("=")[2], index + 1
    if word.startswith("-c"):
        return word[2:].removeprefix("="), index + 1
    return None


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line of authstate into the overrides that it begins with, and the rest of its words."""
    overrides: list[str] = []
    index = 0
    while index < len(words) and (found := override_at(words, index) or _account_at(words, index)):
        override, index = found
        overrides.append(override)
    return overrides, list(words[index:])


def account_override(name: str) -> str:
    """Return the override that names an account. The name is untrusted, and is a TOML string in any case."""
    import json  # imported here: most command lines name no account

    return f"authstate.account={json.dumps(name, ensure_ascii=False)}"


def _account_at(words: Sequence[str], index: int) -> tuple[str, int] | None:
    """Read the `--account` at a word, as `override_at` does."""
    option, has_value, value = words[index].partition("=")
    if option != ACCOUNT:
        return None
    if has_value:
        return account_override(value), index + 1
    return (account_override(words[index + 1]), index + 2) if index + 1 < len(words) else None


def find_overrides(command: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Find the overrides anywhere in the command of a child.

    Only those with a `=` count: the command may begin with another program, such as `sh -c SCRIPT`.

    Yields:
        The index where the override begins, the index after it, and the override.
    """
    index = 0
    while index < len(command):
        found = override_at(command, index)
        if found and any("=" in word for word in command[index : found[1]]):
            yield index, found[1], found[0]
            index = found[1]
        else:
            index += 1
