"""The Report tab's last part: what the adapter changed on texts that nobody asked about.

Reads differences.json as `python -m compare.differences` wrote it.
"""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import UndefinedError
from markupsafe import Markup

from compare.page.frame.words import Words
from compare.page.shared.templates import draw
from lens.errors import BadRows

NAME = "differences.json"
PASSAGES, TOKENS = 3, 8  # of each kind; the command's own page has more
LEVELS, FULL = 5, 2.0  # shades of a token, the darkest from so many nats


def pieces(text: dict) -> list[tuple[str, int, str]]:
    """A passage's tokens, each with its shade and its KL in nats."""
    return [(piece, min(LEVELS - 1, int(LEVELS * kl / FULL)), f"{kl:.2f}")
            for piece, kl in zip(text["pieces"], text["kls"], strict=True)]


def contexts(token: dict) -> list[dict]:
    """The places where a token changed most; of a file from before there were several, its one."""
    return token.get("contexts") or [{"text": token["context"], "change": token["most"]}]


def draw_corpus(found: dict) -> Markup:
    """The section over differences.json's dictionary. Raises KeyError and its like where fields are missing."""
    passages = {name: [{**text, "parts": pieces(text)} for text in found[name][:PASSAGES]]
                for name in ("most_changed", "least_changed", "forgotten")}
    tokens = {name: [{**token, "contexts": contexts(token)} for token in found[name][:TOKENS]]
              for name in ("risen", "fallen")}
    return draw("report/corpus", "corpus", f=found, passages=passages, tokens=tokens,
                summary=[Words(said["message_zh"], said["message"]) for said in found["summary"]],
                groups=[*found["sources"], *found["tags"]])


def read_corpus(path: Path) -> tuple[str, Markup]:
    """The adapter's sha256 and the section of a file; "" and how to make one where there is none. Raises BadRows."""
    if not path.is_file():
        return "", draw("report/corpus", "nothing")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["adapter"]["sha256"]), draw_corpus(found)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, UndefinedError) as err:
        raise BadRows("report-unreadable", file=path.name, reason=repr(err)[:200]) from err
