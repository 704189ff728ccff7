"""The one parser of `-c KEY=VALUE`: each form, where it may stand, and what is not an override."""

import pytest

from authstate.adapters.config.override_arguments import find_overrides, split_overrides

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
