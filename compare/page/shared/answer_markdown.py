"""An answer's Markdown as HTML, safe to show: whatever is HTML in it stays text, no image is fetched.

markdown-it-py escapes what it does not write itself and takes no `javascript:` or `data:` address. A heading becomes
a paragraph that is set as one, so that an answer does not change the page's own order of headings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from compare.page.frame.words import harmless

PLAIN = {"paragraph_open", "inline", "paragraph_close", "text", "softbreak"}  # what looks as the text itself does


@cache
def reader() -> MarkdownIt:
    found = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 100})
    return found.enable(["table", "strikethrough"]).disable("image")


def for_the_page(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            token.attrs = {"class": "lens-heading"} if token.nesting > 0 else {}
        elif token.type == "link_open":
            token.attrs |= {"rel": "noopener noreferrer nofollow", "target": "_blank"}
        for_the_page(token.children or ())


def rendered(text: str) -> Markup | None:
    """The HTML of an answer; None where nothing in it is set by Markdown."""
    tokens = reader().parse(harmless(text))
    if all(token.type in PLAIN for top in tokens for token in (top, *(top.children or ()))):
        return None
    for_the_page(tokens)
    return Markup(reader().renderer.render(tokens, reader().options, {}))
