"""python -m tools.clean_corpus CORPUS --output DIR: the pretraining text without repeats and without what is no prose.

Works on sentences. A sentence of 12 characters or more that stood before, in this file or another, is dropped; so are
lines with too little Chinese (code, tables, logs), exam lines (①, A., 选项) and dialogue tags. What is left of a
document keeps its order; documents that become too short go. Prints what each file kept, for the model card.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# In this order, so that a sentence that stands in two files stays in the better one.
KEPT = ("wiki_zh_chunks", "rc_wiki_contexts", "cmrc2017_2019_cft_stories", "cv_wiki_sentences_cc0",
        "tatoeba_cmn_sentences_ccby", "freecodecamp_news_zh", "lctt_ccbysa_opensource_fedora", "howtocook",
        "smile_cc0_dialogues_sample", "d2l_zh", "laws_national_sample")
SENTENCE = re.compile(r"[^。！？!?\n]*[。！？!?]+[”’」』）)]*|[^。！？!?\n]+")
HAN = re.compile(r"[\u4e00-\u9fff]")
TAG = re.compile(r"^(求助者|支持者|用户|客服|问|答)[：:]\s*", re.MULTILINE)
EXAM = re.compile(r"[①-⑳]|^\s*[A-D][.．、]|分）|选项|（\s*）|_{3,}|下列")
LEAST_HAN = 0.6  # share of a line's characters that are neither space nor digit
REPEATED = 12  # characters; shorter sentences may stand again
LEAST_DOCUMENT = 8  # characters


@dataclass
class Counts:
    """Characters of one file: read, kept, and dropped as a repeat."""

    read: int = 0
    kept: int = 0
    repeated: int = 0


def is_prose(line: str) -> bool:
    """Is it mostly Chinese, and neither an exam question nor markup?"""
    letters = [c for c in line if not c.isspace() and not c.isdigit()]
    return bool(letters) and len(HAN.findall(line)) >= LEAST_HAN * len(letters) and not EXAM.search(line)


def cleaned(text: str, seen: set[int], counts: Counts) -> str:
    """A document without repeated sentences and without lines that are no prose."""
    lines = []
    for line in TAG.sub("", text).split("\n"):
        if not is_prose(line):
            continue
        parts = []
        for sentence in SENTENCE.findall(line):
            key = hash(re.sub(r"\W", "", sentence))
            if len(sentence) >= REPEATED and key in seen:
                counts.repeated += len(sentence)
                continue
            seen.add(key)
            parts.append(sentence)
        if kept := "".join(parts).strip():
            lines.append(kept)
    return "\n".join(lines)


def documents(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def clean(corpus: Path, output: Path) -> dict[str, Counts]:
    """Write the cleaned files; returns the counts of each. Files that are not named in KEPT are left out."""
    output.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    found = {}
    for name in KEPT:
        if not (corpus / f"{name}.jsonl").is_file():
            continue
        found[name] = counts = Counts()
        with (output / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for text in documents(corpus / f"{name}.jsonl"):
                counts.read += len(text)
                if len(kept := cleaned(text, seen, counts)) >= LEAST_DOCUMENT:
                    counts.kept += len(kept)
                    file.write(json.dumps({"text": kept}, ensure_ascii=False) + "\n")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.clean_corpus", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of .jsonl files with a field `text`")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    for name, counts in clean(args.corpus, args.output).items():
        print(f"{name}: {counts.kept:,} of {counts.read:,} characters, {counts.repeated:,} repeated", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
