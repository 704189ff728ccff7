"""The one parser of `-c KEY=VALUE`: each form, where it may stand, and what is not an override."""

import tomllib

import pytest

from authstate.adapters.config.override_arguments import account_override, find_overrides, split_overrides

FORMS = (["-c", "a=1"], ["--config", "a=1"], ["--config=a=1"], ["-ca=1"], ["-c=a=1"])


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_every_form_is_read_alike(form: list[str]) -> None:
    assert split_overrides([*form, "status", *form]) == (["a=1"], ["status", *form])
    command = ["codex", *form, "app-server", *form]
    assert [override for _, _, override in find_overrides(command)] == ["a=1", "a=1"]
    assert [command[start:end] for start, end, _ in find_overrides(command)] == [form, form]


@pytest.mark.parametrize("words", [[], ["-c"], ["--config"], ["--", "-c", "a=1"], ["status", "-ca=1"]], ids=" ".join)
def test_no_override_at_the_beginning(words: list[str]) -> None:
    assert split_overrides(words) == ([], words)


@pytest.mark.parametrize("words", [["sh", "-c", "codex"], ["codex", "-c"], ["codex", "-cheap"]], ids=" ".join)
def test_an_argument_of_another_program_is_no_override(words: list[str]) -> None:
    assert list(find_overrides(words)) == []


@pytest.mark.parametrize("form", [["--account", "work"], ["--account=work"]], ids=" ".join)
def test_an_account_is_an_override_of_ours_and_not_of_a_child(form: list[str]) -> None:
    assert split_overrides([*form, "-ca=1", *form, "wrap", *form]) == (
        ['authstate.account="work"', "a=1", 'authstate.account="work"'],
        ["wrap", *form],
    )
    assert split_overrides(["--", *form]) == ([], ["--", *form])
    assert list(find_overrides(["codex", *form, "app-server", *form])) == []


@pytest.mark.parametrize("words", [["--account"], ["--accounts", "x"], ["--account-x=1"]], ids=" ".join)
def test_what_names_no_account(words: list[str]) -> None:
    assert split_overrides(words) == ([], words)


@pytest.mark.parametrize("name", ["work", 'a"b', "a\\b", "a\nb", "", "\U0001f600", 'x"\nforced_login_method = "api'])
def test_whatever_is_typed_stays_one_name(name: str) -> None:
    override = account_override(name)
    assert tomllib.loads(override) == {"authstate": {"account": name}}
