"""The list of a vault's accounts: their ids, their nicknames, and which one is selected. It holds no secret.

The first account is the home's own login. It is always in the list, so a home without this file is a vault of one
account. The others are folders of their own, see vault.py.
"""

import os
import re

import msgspec

from authstate.adapters.config.home import ACCOUNT_LIST, ConfigError
from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault.json_file import JsonFile

HOME_ACCOUNT = "home"
"""The id of the home's own login, and its nickname until it is renamed."""

_NAME = re.compile(r"[^\W_][\w.@+-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class AccountEntry(msgspec.Struct, frozen=True):
    """One account of the list."""

    id: str
    """`HOME_ACCOUNT`, or the name of its folder. It never changes."""
    name: str
    """Its nickname, unique in the vault."""

    @property
    def signed_out_message(self) -> str:
        """What a person is told if nobody is signed in to it."""
        return f"nobody is signed in to the account {self.name}: sign in with `authstate login --account {self.name}`"


class AccountList(msgspec.Struct, frozen=True):
    """All accounts, the home's first."""

    entries: tuple[AccountEntry, ...] = (AccountEntry(HOME_ACCOUNT, HOME_ACCOUNT),)
    selected: str = HOME_ACCOUNT
    """The id of the account that is used when none is named."""

    def __post_init__(self) -> None:
        """Raise ValueError for a list that a person has damaged by hand: an id is the name of a folder."""
        ids = [entry.id for entry in self.entries]
        is_valid = all(map(_ID.fullmatch, ids)) and all(_NAME.fullmatch(entry.name) for entry in self.entries)
        is_unique = len(set(ids)) == len(ids) == len({entry.name for entry in self.entries})
        if not is_valid or not is_unique or ids[:1] != [HOME_ACCOUNT] or self.selected not in ids:
            raise ValueError("this is no list of accounts")

    @property
    def names(self) -> dict[str, str]:
        """The nicknames, by id."""
        return {entry.id: entry.name for entry in self.entries}

    def named(self, name: str) -> AccountEntry:
        """Return the account with this nickname or id. Raises ConfigError: there is none, and which there are."""
        found = self.find(name)
        if found is None:
            names = ", ".join(entry.name for entry in self.entries)
            raise ConfigError(f"there is no account {shown_name(name)}: `authstate account list` shows {names}")
        return found

    def find(self, name: str) -> AccountEntry | None:
        """Return the account with this nickname or, if there is none, with this id. None if there is neither."""
        by_name = next((entry for entry in self.entries if entry.name == name), None)
        return by_name or next((entry for entry in self.entries if entry.id == name), None)

    def with_entry(self, entry: AccountEntry) -> "AccountList":
        """Return the list with one more account. Raises ConfigError: its nickname is invalid or taken."""
        self._ensure_free(entry.name)
        return msgspec.structs.replace(self, entries=(*self.entries, entry))

    def renamed(self, account: str, name: str) -> "AccountList":
        """Return the list with another nickname for an id. Raises ConfigError: it is invalid or taken."""
        if self.named(account).name == name:
            return self
        self._ensure_free(name, besides=account)
        entries = tuple(AccountEntry(account, name) if one.id == account else one for one in self.entries)
        return msgspec.structs.replace(self, entries=entries)

    def without(self, account: str) -> "AccountList":
        """Return the list without an id. The home's own account stays. A selected one is replaced by the home's."""
        entries = tuple(entry for entry in self.entries if entry.id != account or account == HOME_ACCOUNT)
        selected = HOME_ACCOUNT if self.selected == account else self.selected
        return msgspec.structs.replace(self, entries=entries, selected=selected)

    def selecting(self, account: str) -> "AccountList":
        """Return the list with another selected id. Raises ConfigError: there is no such account."""
        return msgspec.structs.replace(self, selected=self.named(account).id)

    def free_name(self, wish: str) -> str:
        """Return a nickname that is free: the wish, made valid, or the wish with a number."""
        base = re.sub(r"[^\w.@+-]", "-", wish).lstrip("_.@+-")[:56] or "account"
        names = {word for entry in self.entries for word in (entry.name, entry.id)}
        number = 1
        while (name := base if number == 1 else f"{base}-{number}") in names:
            number += 1
        return name

    def _ensure_free(self, name: str, besides: str | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{shown_name(name)} cannot be the name of an account: use 1 to 64 letters, digits and . @ + - "
                "_, with a letter or a digit first"
            )
        taken = self.find(name)
        if taken is not None and taken.id != besides:
            raise ConfigError(
                f"the name {name!r} is taken: choose another one. To sign in to that account again: `authstate login "
                f"--account {name}`"
            )


def printable_name(name: str) -> str:
    """Return the beginning of a name that a person typed, without what a terminal would execute."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:64])


def shown_name(name: str) -> str:
    """Return what an error repeats of a name that a person or a program sent: its beginning, in quotes.

    It may be a token that was put into the wrong place. What looks like one is hidden.
    """
    from authstate.adapters.logs.redaction import redact_text  # imported here: most commands repeat no name

    return repr(redact_text(printable_name(name)))


def accounts_file(folder: str, disk: Disk | None = None) -> JsonFile[AccountList]:
    """Return the file in the folder of a vault. It does not have to exist."""
    return JsonFile(os.path.join(folder, ACCOUNT_LIST), AccountList, AccountList(), disk)
