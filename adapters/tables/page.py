"""The page of the state tables: one HTML file that needs no network and, to be read, no script.

Without a script it is a document: the pictures, every state with what can happen and what is refused, every row and
every cell. With the script, a person walks: chooses a state, fires triggers, and answers for the guards.

The policy of the page allows its own script and style, by their digests, and nothing else.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from authstate.adapters.tables.held_by import Held
from authstate.adapters.tables.layout import lay_out
from authstate.adapters.tables.markup import attributes, place, text
from authstate.adapters.tables.page_cells import PartsOfTable
from authstate.adapters.tables.svg import picture_style, svg
from authstate.engine.machines.table import Table
from authstate.engine.machines.words import Words

_INTRODUCTION = (
    "Every state machine of authstate, generated from the tables that the program runs. A table says which triggers "
    "are allowed in which state. Everything else is refused, and nothing changes."
)
_HOW_TO_WALK = (
    "Choose a state in the picture or in the list, and fire a trigger. You decide what a guard answers. The address of "
    "the page is a link to your walk."
)


def page(tables: Sequence[Table], words: Mapping[str, Words], held: Held) -> str:
    """Return the page as HTML.

    Args:
        tables: the tables, in the order in which they are shown.
        words: the words of each table, by its name.
        held: the tests that hold each cell. Empty if they are not known.
    """
    return "\n".join(_lines(tables, words, held)) + "\n"


def _lines(tables: Sequence[Table], words: Mapping[str, Words], held: Held) -> Iterator[str]:
    style = f"\n{picture_style()}{_asset('page.css')}"
    script = f"\n{_asset('page.js')}"
    yield from (
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        "<title>State tables – authstate</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        "<header>",
        "<h1>State tables</h1>",
        f"<p>{text(_INTRODUCTION)}</p>",
        f'<p class="walker" hidden>{text(_HOW_TO_WALK)}</p>',
        '<nav aria-label="Tables"><ul>',
    )
    yield from (f'<li><a href="#{place(table.name)}">{text(table.title)}</a></li>' for table in tables)
    yield "</ul></nav>"
    yield "</header>"
    for table in tables:
        yield from _section(table, PartsOfTable(table, words.get(table.name, Words({})), held.get(table.name, ())))
    yield '<p role="status" id="said"></p>'
    yield "</main>"
    yield f"<script>{script}</script>"
    yield "</body>"
    yield "</html>"


def _section(table: Table, parts: PartsOfTable) -> Iterator[str]:
    name, title = place(table.name), text(table.title)
    data = attributes(data_initial=table.states.index(table.initial), data_name=table.name)
    yield f'<section id="{name}"{data} aria-labelledby="{name}~head">'
    yield f'<h2 id="{name}~head">{title}</h2>'
    yield f'<div class="scroll" tabindex="0" role="group" aria-label="Picture: {title}">'
    yield svg(lay_out(table)).rstrip()
    yield "</div>"
    yield '<div class="bench"><div class="articles">'
    for state in table.states:
        yield from parts.state(state)
    yield "</div></div>"
    yield f'<h3>Every row</h3><div class="scroll" tabindex="0" role="group" aria-label="Every row: {title}">'
    yield from parts.rows()
    yield f'</div><h3>Every cell</h3><div class="scroll" tabindex="0" role="group" aria-label="Every cell: {title}">'
    yield from parts.matrix()
    yield "</div></section>"


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
