"""A report's files in one directory."""

from __future__ import annotations

import json
from pathlib import Path

from compare.report.comparator import comparator
from compare.report.html import html
from compare.report.markdown import markdown
from compare.report.pictures import pictures
from lens.errors import BadQuestion


def make_directory(path: Path) -> Path:
    """Raises BadQuestion where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise BadQuestion(f"--output {path} cannot be made ({err.strerror}); give a directory to write to") from err
    return path


def write(report: dict, directory: Path) -> list[Path]:
    """Write report.json, report.md, report.html, llm_comparator.json and the pictures; each in one move."""
    files: dict[str, bytes] = {
        "report.json": json.dumps(report, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n",
        "report.md": markdown(report).encode("utf-8", "replace"),
        "report.html": html(report).encode("utf-8", "replace"),
        "llm_comparator.json": json.dumps(comparator(report), ensure_ascii=False, indent=1).encode("utf-8", "replace"),
        **{f"{name}.png": png for name, png in pictures(report).items()}}
    for name, content in files.items():
        part = directory / f"{name}.part"
        part.write_bytes(content)
        part.replace(directory / name)
    return [directory / name for name in files]
