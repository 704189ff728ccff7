"""The pages of the browser login: what is in them, and what is not."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from authstate.adapters.oauth.redirect import pages

EVERY = {
    **{name: page for name, page in vars(pages).items() if isinstance(page, pages.Page)},
    "FAILURE": pages.failure("the issuer refused the sign-in", "invalid_grant"),
    "FAILURE_WITHOUT_CODE": pages.failure("the issuer refused the sign-in"),
}


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_there_is_a_page_for_everything() -> None:
    assert len(EVERY) == 10
    assert len({page.title for page in EVERY.values()}) == 9


@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_whole_and_needs_nothing_from_elsewhere(name: str) -> None:
    page = EVERY[name]
    response = page.response()
    html = response.body.decode()
    elements = Elements(html)
    assert elements.open == [] and html.startswith("<!doctype html>\n")
    names = [tag for tag, _ in elements.found]
    assert names.count("h1") == names.count("main") == names.count("title") == names.count("style") == 1
    assert ("html", {"lang": "en"}) in elements.found
    assert f"<title>{page.title} – authstate</title>" in html and f"<h1>{page.title}</h1>" in html
    assert {"viewport", "color-scheme"} <= {dict(attributes).get("name") for _, attributes in elements.found}
    assert not {"script", "link", "img", "iframe", "object", "form", "a", "base", "svg"} & set(names)
    attributes = {attribute for _, found in elements.found for attribute in found}
    assert attributes <= {"lang", "charset", "name", "content", "class", "role"}
    assert not re.search(r"url\(|@import|https?:", html)
    assert len(response.body) < 4096
    assert "application" in elements.text or "browser window" in elements.text, "it says where to go on"


@pytest.mark.parametrize("name", EVERY)
def test_the_policy_lets_in_its_style_and_nothing_else(name: str) -> None:
    response = EVERY[name].response()
    style = response.body.decode().partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        **dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"),
        "style-src": f"'sha256-{digest}'",
    }


def test_what_comes_from_outside_is_escaped() -> None:
    html = pages.failure("<b>&\"'", "<i>&\"'").response().body.decode()
    assert "<b>" not in html and "<i>" not in html
    assert "&lt;b&gt;&amp;&quot;&#x27;" in html and "&lt;i&gt;&amp;&quot;&#x27;" in html
    assert "$title" in pages.failure("$title ${style} $$").response().body.decode(), "nothing is filled in twice"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("it broke", "It broke."),
        ("It broke!", "It broke!"),
        ("is it broken?", "Is it broken?"),
        ("too long…", "Too long…"),
        ("", ""),
        ("\ud800", "?."),
    ],
)
def test_a_message_becomes_a_sentence(message: str, shown: str) -> None:
    assert f"<p>{shown}</p>" in pages.failure(message).response().body.decode()
