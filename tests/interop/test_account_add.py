"""`authstate account add` as a person meets it: what a sign-in leaves in the vault, and what a failed one does not."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop.test_cli_login import Person, let_no_file_grow
from support.simulated_browser import agree

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
CODE = re.compile(r"ABCD-\d{4}")
URL = re.compile(r"http://127\.0\.0\.1:\d+/oauth/authorize\S+(?=\s)")


@pytest.fixture
def person(make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[Person]:
    """Somebody who is signed in to the home's own account."""
    somebody = Person(make_home(email="person@example.com", account_id="org-1"), issuer)
    yield somebody
    somebody.leave()


def listed(person: Person) -> dict[str, dict[str, Any]]:
    ran = person.run("account", "list", "--json")
    assert ran.returncode == 0, ran.stderr
    return {one["name"]: one for one in json.loads(ran.stdout)["accounts"]}


def tokens_in(home: Path) -> list[str]:
    return [json.loads(path.read_text())["tokens"]["refresh_token"] for path in home.rglob("auth.json")]


def add(person: Person, issuer: LoopbackIssuer, *words: str, **login: Any) -> str:
    shown = person.through_a_pipe("account", "add", *words, "--device")
    issuer.approve_device(shown.until(CODE).group(), **login)
    assert shown.end() == 0, shown.text
    return shown.text


def test_a_second_account(person: Person, issuer: LoopbackIssuer) -> None:
    before = (person.home / "auth.json").read_bytes()
    text = add(person, issuer, email="worker@example.com", account_id="org-2")
    assert "Added worker@example.com: worker@example.com (workspace org-2)." in text
    assert "authstate account use worker@example.com" in text
    found = listed(person)
    assert list(found) == ["home", "worker@example.com"] and found["home"]["isSelected"]
    assert (person.home / "auth.json").read_bytes() == before
    assert issuer.stats()["revocations"] == 0
    ran = person.run("status", "--account", "worker@example.com")
    assert ran.returncode == 0 and "org-2" in ran.stdout
    add(person, issuer, "other", email="worker@example.com", account_id="org-3")
    assert list(listed(person)) == ["home", "worker@example.com", "other"], "two workspaces of one email"


def test_who_is_in_the_vault_already_gets_the_new_login_there(person: Person, issuer: LoopbackIssuer) -> None:
    add(person, issuer, "work", email="worker@example.com", account_id="org-2")
    old = tokens_in(person.home)
    text = add(person, issuer, "again", email="worker@example.com", account_id="org-2")
    assert "Signed in again to work" in text and "had this account already, as work" in text
    assert "authstate account rename work again" in text
    text = add(person, issuer, email="person@example.com", account_id="org-1")
    assert "Signed in again to home" in text
    assert list(listed(person)) == ["home", "work"]
    assert not set(old) & set(tokens_in(person.home))
    assert issuer.stats()["revocations"] == 2, "the replaced logins were revoked"


def test_with_a_browser_for_a_program(person: Person, issuer: LoopbackIssuer) -> None:
    """`--json` leaves standard output to the object; here both go to one pipe."""
    shown = person.through_a_pipe("account", "add", "work", "--no-browser", "--json")
    agree(issuer, shown.until(URL).group(), email="worker@example.com", account_id="org-2")
    assert shown.end() == 0
    answer = json.loads(shown.text[shown.text.index("\n{") :])
    assert answer["isNew"] is True and answer["account"]["name"] == "work"
    assert answer["account"]["workspaceId"] == "org-2" and answer["account"]["state"] == "chatgpt"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_ended_leaves_no_trace(person: Person, number: signal.Signals) -> None:
    shown = person.through_a_pipe("account", "add", "work", "--device")
    shown.until(CODE)
    shown.process.send_signal(number)
    assert shown.end() == (-number if number is signal.SIGKILL else 128 + number)
    if number is not signal.SIGKILL:
        assert "the sign-in was cancelled; no account was added" in shown.text
    assert list(listed(person)) == ["home"]
    assert len(tokens_in(person.home)) == 1


def test_one_that_is_refused_leaves_no_trace(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("account", "add", "-c", 'forced_chatgpt_workspace_id="org-9"', "--device")
    issuer.approve_device(shown.until(CODE).group(), email="worker@example.com", account_id="org-2")
    assert shown.end() == 5
    assert list(listed(person)) == ["home"]


def test_one_that_cannot_be_stored_leaves_no_trace_and_revokes(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("account", "add", "work", "--device", preexec_fn=let_no_file_grow)
    issuer.approve_device(shown.until(CODE).group(), email="worker@example.com", account_id="org-2")
    assert shown.end() == 4
    assert "too large" in shown.text.splitlines()[-1]
    assert list(listed(person)) == ["home"]
    assert issuer.stats()["revocations"] == 1
    assert issuer.stats()["refreshes_refused"] == 0
