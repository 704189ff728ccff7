"""The difference of the tables as a report: text for a terminal, Markdown for a pull request, JSON for a program."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from authstate.adapters.tables.diff_glossary import glossary
from authstate.adapters.tables.diff_picture import picture
from authstate.adapters.tables.diff_sentences import DiffSentences, Sentence, counted
from authstate.adapters.tables.report_style import ReportStyle
from authstate.adapters.tables.table_diff import TableDiff, TableFate, TablesDiff

MAX_MARKDOWN = 60_000
"""Characters of a report in Markdown. A comment on GitHub may have 65,536."""
_TEXT, _MARKDOWN = ReportStyle(is_markdown=False), ReportStyle(is_markdown=True)


def as_text(diff: TablesDiff) -> str:
    """Return the report for a terminal. It ends with a line feed."""
    lines = [_headline(diff, _TEXT)]
    for table in diff.changed:
        sentences = DiffSentences(table, _TEXT)
        lines += ["", f"{_title(table, _TEXT)}: {sentences.summary()}"]
        for heading, found in _sections(table, sentences, _TEXT):
            lines += ["", f"  {heading}"]
            for sentence in found:
                lines.append(f"    - {sentence.text}")
                lines += [f"        {detail}" for detail in sentence.details]
    return "\n".join(lines) + "\n"


def as_markdown(diff: TablesDiff) -> str:
    """Return the report as a comment for a pull request, at most `MAX_MARKDOWN` characters. It ends with a line feed.

    If it would be longer, the pictures are left out. If that is not enough, it is cut at the end of a line.
    """
    for with_pictures in (True, False):
        text = "\n".join(_markdown_lines(diff, with_pictures=with_pictures)) + "\n"
        if len(text) <= MAX_MARKDOWN:
            return text
    end = text.rindex("\n", 0, MAX_MARKDOWN - 200)
    return f"{text[:end]}\n\nThe report ends here, because it would be too long for a comment.\n"


def as_json(diff: TablesDiff) -> str:
    """Return the report as one JSON object, indented. It ends with a line feed."""
    report = {
        "old": diff.old,
        "new": diff.new,
        "same": [table.name for table in diff.tables if table.fate is TableFate.SAME],
        "changed": [_json_table(table) for table in diff.changed],
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def _json_table(table: TableDiff) -> dict[str, Any]:
    """What differs in a table. What did not change is left out."""
    found: dict[str, Any] = msgspec.to_builtins(table)
    for version in ("old", "new"):
        data = getattr(table, version)
        found[version] = None if data is None or table.fate is TableFate.CHANGED else msgspec.to_builtins(data.table)
    return {name: value for name, value in found.items() if value not in (None, [], (), False)}


def _markdown_lines(diff: TablesDiff, *, with_pictures: bool) -> Iterator[str]:
    yield "### State tables"
    yield ""
    yield _headline(diff, _MARKDOWN)
    for table in diff.changed:
        sentences = DiffSentences(table, _MARKDOWN)
        yield from ("", f"#### {_title(table, _MARKDOWN)}: {sentences.summary()}")
        for heading, found in _sections(table, sentences, _MARKDOWN):
            yield from ("", f"**{heading}**", "")
            for sentence in found:
                yield f"- {sentence.text}"
                yield from (f"  - {detail}" for detail in sentence.details)
        if with_pictures and (drawn := picture(table)):
            yield from ("", "```mermaid", drawn.rstrip(), "```")
            yield from ("", "Green: added. Red and dashed: removed. Amber: changed. Grey: as before.")
        elif not with_pictures:
            yield from ("", "The pictures are left out, because the report would be too long for a comment.")


def _headline(diff: TablesDiff, style: ReportStyle) -> str:
    names = f"{style.code(diff.old)} and {style.code(diff.new)}"
    if not diff.changed:
        return f"No state table differs between {names} ({counted(len(diff.tables), 'table')})."
    same = len(diff.tables) - len(diff.changed)
    others = f", {same} {'is' if same == 1 else 'are'} the same" if same else ""
    verb = "differs" if len(diff.changed) == 1 else "differ"
    return f"{counted(len(diff.changed), 'state table')} {verb} between {names}{others}."


def _title(table: TableDiff, style: ReportStyle) -> str:
    data = table.new or table.old
    assert data is not None
    place = f" in {style.code(data.path)}" if data.path else ""
    return f"{style.prose(data.table.title)} ({style.code(table.name)}{place})"


def _sections(
    table: TableDiff, sentences: DiffSentences, style: ReportStyle
) -> Iterator[tuple[str, Sequence[Sentence]]]:
    if table.fate is TableFate.CHANGED:
        sections = {
            "What was changed": tuple(sentences.changes()),
            "What follows": tuple(sentences.consequences()),
            "What the names mean": tuple(Sentence(text) for text in glossary(table, style)),
        }
    else:
        sections = {"Its rows": tuple(sentences.rows())}
    yield from ((heading, found) for heading, found in sections.items() if found)
