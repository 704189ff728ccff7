"""A file of the administrator that opens the stored login to a child: what is refused, and what it says."""

from pathlib import Path

import pytest

from authstate.adapters.child.command_line import ephemeral_command
from authstate.adapters.child.pinned_store import refuse_pinned_store
from authstate.adapters.config.home import ConfigError

COMMAND = ["codex", "app-server"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def check(home: Path, command: list[str], **files: str) -> None:
    """Write the files into the administrator's folder, then ask."""
    folder = home.parent / "etc"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    refuse_pinned_store(ephemeral_command(command), {"CODEX_HOME": str(home)}, system=str(folder))


def store(mode: str) -> str:
    return f'cli_auth_credentials_store = "{mode}"'


@pytest.mark.parametrize("mode", ["file", "keyring", "auto", "of a later release"])
@pytest.mark.parametrize("name", ["managed_config", "requirements"])
def test_a_store_that_a_child_would_open_is_refused(home: Path, name: str, mode: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(home, COMMAND, **{name: store(mode)})
    said = str(caught.value)
    assert str(home.parent / "etc" / f"{name}.toml") in said
    assert mode in said and str(home) in said and "env CODEX_HOME=" in said


def test_a_weaker_file_is_refused_even_where_the_stronger_is_harmless(home: Path) -> None:
    """0.93.0 and 0.120.0 do not read requirements.toml."""
    with pytest.raises(ConfigError, match="managed_config"):
        check(home, COMMAND, managed_config=store("file"), requirements=store("ephemeral"))
    with pytest.raises(ConfigError, match="requirements"):
        check(home, COMMAND, managed_config=store("ephemeral"), requirements=store("file"))


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"managed_config": "", "requirements": ""},
        {"managed_config": store("ephemeral"), "requirements": store("ephemeral")},
        {"config": store("file")},
        {"managed_config": 'profile = "x"\n[profiles.x]\n' + store("file")},
    ],
)
def test_what_opens_nothing_is_let_through(home: Path, files: dict[str, str]) -> None:
    check(home, COMMAND, **files)


@pytest.mark.parametrize("text", ["a =", "cli_auth_credentials_store = 3"])
def test_a_file_that_cannot_be_used_is_named(home: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"managed_config\.toml"):
        check(home, COMMAND, managed_config=text)


@pytest.mark.parametrize(
    "command",
    [
        ["ssh", "build-host", "codex", "app-server"],
        ["/usr/bin/docker", "exec", "-i", "agent", "codex", "app-server"],
        ["sudo", "-n", "docker.exe", "exec", "-i", "agent", "codex", "app-server"],
        ["env", "A=b", "ssh", "-T", "build-host", "codex", "app-server"],
        ["env", "CODEX_HOME=OTHER", "codex", "app-server"],
    ],
)
def test_a_child_elsewhere_or_in_another_home_is_let_through(home: Path, command: list[str]) -> None:
    (home.parent / "other").mkdir()
    words = [word.replace("OTHER", str(home.parent / "other")) for word in command]
    check(home, words, managed_config=store("file"))


@pytest.mark.parametrize(
    "command",
    [
        ["env", "CODEX_HOME=OTHER", "env", "CODEX_HOME=HOME/.", "codex", "app-server"],
        ["/opt/launcher", "docker", "codex", "app-server"],
        ["codex", "-C", "/srv/ssh", "app-server"],
        ["env", "codex", "app-server", "CODEX_HOME=OTHER"],
        ["env", "app-server"],
        ["env", "CODEX_HOME=LINK", "codex", "app-server"],
    ],
)
def test_a_child_in_our_home_is_refused_however_it_is_written(home: Path, command: list[str]) -> None:
    (home.parent / "link").symlink_to(home)
    places = {"OTHER": home.parent / "other", "HOME": home, "LINK": home.parent / "link"}
    words = list(command)
    for name, place in places.items():
        words = [word.replace(f"={name}", f"={place}") for word in words]
    with pytest.raises(ConfigError, match="wrap -- env CODEX_HOME="):
        check(home, words, managed_config=store("file"))


def test_a_child_of_a_link_is_compared_with_the_home_of_this_process(home: Path) -> None:
    folder, other = home.parent / "etc", home.parent / "other"
    folder.mkdir()
    other.mkdir()
    (folder / "managed_config.toml").write_text(store("file"))
    ours = {"CODEX_HOME": str(home)}
    refuse_pinned_store(COMMAND, {"CODEX_HOME": str(other)}, ours, str(folder))
    with pytest.raises(ConfigError):
        refuse_pinned_store(COMMAND, ours, ours, str(folder))
    refuse_pinned_store(COMMAND, ours, ours, None)


def test_an_empty_home_for_the_child_is_the_default_one(tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / "requirements.toml").write_text(store("file"))
    words = ephemeral_command(["env", "CODEX_HOME=", "codex", "app-server"])
    with pytest.raises(ConfigError, match="would open the login"):
        refuse_pinned_store(words, {"HOME": str(tmp_path)}, system=str(tmp_path))
