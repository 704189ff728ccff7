"""Builds the site: `python docs/site/build.py` writes build/site, and every warning is an error.

The pages are README.md, the Markdown files in docs/, diagrams/ and docs/decisions/, and the other pages of the project.
They are copied first, and their links are changed to the places that the pages have in the site. The pictures of the
state tables and the page to walk through them are copied as they are. The reference is generated from the docstrings of
the public names.

It needs `pip install -e '.[docs]'`. With `npm`, the site contains the script that draws the diagrams; without, the
reader's browser loads it from the network.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

REPO = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CONFIG = "zensical.toml"
PROJECT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FILES_ON_GITHUB = "https://github.com/authstate/authstate/blob/main/"
MERMAID = "mermaid@12"
MERMAID_SCRIPT = "mermaid.min.js"
"""Only the pages that have a diagram load it: it has five megabytes."""

_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
_NAMED_BY_PATH = re.compile(r"\[([\w/.-]+\.md)\]\(\1")
"""A link whose words are the path of its page: the site shows the title of that page instead."""
_FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)


def places() -> dict[Path, Path]:
    """Return where each page of the repository is in the site."""
    found = {REPO / "README.md": Path("index.md")}
    found |= {REPO / name: Path(name.lower()) for name in PROJECT_PAGES}
    found |= {path: Path(path.name) for path in sorted((REPO / "docs").glob("*.md"))}
    for folder in ("docs/decisions", "diagrams"):
        for path in sorted((REPO / folder).glob("*.md")):
            found[path] = Path(path.parent.name, "index.md" if path.name == "README.md" else path.name)
    return found


def drawings() -> dict[Path, Path]:
    """Return where the pictures of the state tables, and the page to walk through them, are in the site."""
    found = [*(REPO / "diagrams").glob("*.svg"), *(REPO / "diagrams").glob("*.html")]
    return {path: Path("diagrams", path.name) for path in sorted(found)}


def with_links_of_the_site(path: Path, pages: dict[Path, Path]) -> str:
    """Return the text of a page. Its links lead to the pages and drawings of the site, or to files on GitHub."""
    in_the_site = pages | drawings()

    def moved(found: re.Match[str]) -> str:
        target = (path.parent / found[2]).resolve()
        if target in in_the_site:
            place = up_from(pages[path]) + in_the_site[target].as_posix()
        elif target.exists():
            place = FILES_ON_GITHUB + target.relative_to(REPO).as_posix()
        else:
            place = found[2]  # the build reports it
        return f"{found[1]}{place}{found[3] or ''}{found[4]}"

    def titled(found: re.Match[str]) -> str:
        target = path.parent / found[1]
        title = target.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") if target in pages else found[1]
        return f"[{title}]({found[1]}"

    parts = _FENCED.split(path.read_text(encoding="utf-8"))
    return "".join(
        part if part.startswith("```") else _LINK.sub(moved, _NAMED_BY_PATH.sub(titled, part)) for part in parts
    )


def up_from(place: Path) -> str:
    """Return the way from the folder of a page to the folder of all pages."""
    return "../" * len(place.parent.parts)


def write_pages(folder: Path) -> None:
    """Write the pages of the repository. One with a diagram loads the script that draws it, if that is here."""
    pages = places()
    for path, place in pages.items():
        text = with_links_of_the_site(path, pages)
        if "```mermaid" in text and (folder / MERMAID_SCRIPT).exists():
            up = up_from(place) + ("" if place.stem == "index" else "../")
            text += f'\n<script src="{up}{MERMAID_SCRIPT}"></script>\n'
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path, place in drawings().items():
        shutil.copy(path, folder / place)


def write_reference(folder: Path) -> None:
    """Write the pages of the reference, whose entries are generated from docstrings."""
    folder.mkdir()
    groups = tomllib.loads((HERE / "reference.toml").read_text(encoding="utf-8"))
    for name, group in groups.items():
        entries = "\n\n".join(f"::: {one}" for one in group["names"])
        (folder / f"{name}.md").write_text(f"# {group['title']}\n\n{group['text']}\n\n{entries}\n", encoding="utf-8")


def write_configuration(folder: Path) -> None:
    """Write the configuration, with the place of the code that has the docstrings."""
    text = (HERE / CONFIG).read_text(encoding="utf-8")
    code = json.dumps((REPO / ".src").as_posix())
    (folder / CONFIG).write_text(text.replace('".src"', code), encoding="utf-8")


def add_mermaid(folder: Path) -> None:
    """Put the script that draws the diagrams into a folder, if npm can bring it."""
    npm = shutil.which("npm")
    if npm is None:
        return
    with TemporaryDirectory() as place:
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, MERMAID]
        if subprocess.run(command, stdout=sys.stderr).returncode == 0:
            shutil.copy(Path(place, "node_modules", "mermaid", "dist", MERMAID_SCRIPT), folder / MERMAID_SCRIPT)


def build(into: Path, *, has_mermaid: bool) -> int:
    """Build the site, and return the exit status."""
    source = into / "site-source"
    shutil.rmtree(source, ignore_errors=True)
    docs = source / "docs"
    docs.mkdir(parents=True)
    if has_mermaid:
        add_mermaid(docs)
    write_pages(docs)
    write_reference(docs / "reference")
    write_configuration(source)
    for name in ("site.css", "site.js"):
        shutil.copy(HERE / name, docs)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", CONFIG]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    said = built.stdout + built.stderr
    print(said, end="")
    if built.returncode or "griffe: " in said:  # what is wrong with a docstring is no warning to the builder
        return built.returncode or 1
    shutil.rmtree(into / "site", ignore_errors=True)
    shutil.move(source / "site", into / "site")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Builds the site.")
    parser.add_argument("--into", type=Path, default=REPO / "build", help="the folder for `site` and its source")
    parser.add_argument("--without-mermaid", action="store_true", help="leave the script for diagrams to the network")
    arguments = parser.parse_args()
    return build(arguments.into, has_mermaid=not arguments.without_mermaid)


if __name__ == "__main__":
    sys.exit(main())
