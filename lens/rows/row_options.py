"""How files of rows are read, as options: declared once for training and evaluating. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from lens.declared_settings import setting


@dataclass
class RowOptions:
    columns: list[str] = setting([], "the data's own names, as instruction=… input=… output=…")
    encoding: str = setting("", "of text files, such as gb18030 (default: recognised)")
    skip_bad_rows: bool = setting(False, "leave bad rows out and count them, instead of refusing the file")
