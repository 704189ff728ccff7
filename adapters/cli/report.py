"""`authstate report`: what happened to the login, as one file."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.config.home import find_home_path
from authstate.adapters.config.settings import StoreMode, read_config
from authstate.adapters.io.regular_files import write_regular_file
from authstate.adapters.journal.reader import Journal, read_journal
from authstate.adapters.report.page import render_page
from authstate.adapters.report.report import Report, make_report
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.credentials import ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import AuthError
from authstate.engine.ports import CredentialStore


async def report_login(
    overrides: list[str], *, home: Path | None, as_json: bool, output: Path | None, with_email: bool
) -> ExitStatus:
    """Read the journal of a home and print its report, or write it to a file. Changes nothing else.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.
        home: the home, instead of the configured one.
        as_json: JSON instead of Markdown.
        output: where to write it. None: standard output.
        with_email: name the emails of the logins that are stored now.

    Returns:
        DONE, or NOT_SIGNED_IN if a step is not as the tables say, or if the file cannot be written.

    Raises:
        ConfigError: a setting is invalid, or there is no such home.
    """
    variables = dict(os.environ) if home is None else {**os.environ, "CODEX_HOME": str(home)}
    folder = Path(find_home_path(variables, "CODEX_HOME" if home is None else "--home"))
    config, _ = read_config(folder, overrides)
    emails = await _emails_in(folder, config.store_mode) if with_email else {}
    journal = read_journal(folder)
    report = _with_advice(make_report(journal, time.time(), emails), journal, config.journal_size)
    text = _as_json(report) if as_json else render_page(report)
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            write_regular_file(str(output), text.encode("utf-8", "replace"))
        except OSError as fault:
            why = (fault.strerror or type(fault).__name__).lower()
            message = f"cannot write {output}: {why}: name another file with --output"
            return ExitStatus(print_error(message, ExitStatus.NOT_SIGNED_IN))
        print(printable(f"Wrote {output}. {report.explanation[0]}"))
    return ExitStatus.NOT_SIGNED_IN if report.verdict.is_as_the_tables_say is False else ExitStatus.DONE


def _with_advice(report: Report, journal: Journal, size: int) -> Report:
    """Say why there are no lines, if there are none."""
    if journal.lines:
        return report
    why = (
        'The journal is turned off: set authstate.journal = "on" in config.toml, or unset AUTHSTATE_JOURNAL.'
        if not size
        else "The journal of this home is empty: nothing worth a line has happened since authstate keeps it."
    )
    return msgspec.structs.replace(report, explanation=[why])


def _as_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


async def _emails_in(home: Path, mode: StoreMode) -> Mapping[str, str]:
    """The emails of the logins that are stored in a home, by the digest of their account."""
    emails: dict[str, str] = {}
    if mode is StoreMode.EPHEMERAL:
        return emails
    vault = Vault(home, mode)
    stores: list[CredentialStore] = []
    with suppress(AuthError):
        stores += [vault.store(entry.id) for entry in vault.accounts().entries]
    for store in stores:
        with suppress(AuthError):
            stored = await store.load()
            account = stored.account if isinstance(stored, ChatgptTokens | PersonalAccessToken) else None
            if account is not None and account.email:
                emails[account.digest] = account.email
    return emails
