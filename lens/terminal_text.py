"""Text of rows, questions, models and file names on its way to a terminal or a report: nothing in it may steer.

Control characters can move a terminal's cursor, rename its window or type into it; bidirectional overrides turn round
what a reader sees. They are shown as escapes, `\\x1b` and the like.
"""

from __future__ import annotations

# C0, DEL and C1; line and paragraph separators; bidirectional embeddings, overrides and isolates; halves of pairs.
STEERING = (*range(0x20), *range(0x7f, 0xa0), 0x2028, 0x2029, *range(0x202a, 0x202f), *range(0x2066, 0x206a),
            *range(0xd800, 0xe000))
ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in STEERING}
KEEPING_LINES = {code: shown for code, shown in ESCAPES.items() if chr(code) not in "\n\t"}


def visible(text: object) -> str:
    """The text with its lines and tabs, all else that steers as escapes."""
    return str(text).replace("\r\n", "\n").translate(KEEPING_LINES)


def one_line(text: object) -> str:
    """The text as one line, line ends and tabs as escapes too."""
    return str(text).replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r").translate(ESCAPES)
