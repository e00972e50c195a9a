"""Generated texts through `python -m compare --json`: all come back, in order, or the file is refused in one line."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.trust.found import Found, Progress
from bench.trust.server import ROOT
from lens.chat import Prompt, valid_text
from lens.embedded import EMBEDDED_BASE
from lens.errors import BadQuestion
from tests.hostile import texts


def prompt_of_embedded() -> Prompt:
    from transformers import AutoTokenizer

    return Prompt(AutoTokenizer.from_pretrained(EMBEDDED_BASE))


def fits(prompt: Prompt, text: str) -> bool:
    try:
        return len(prompt.encode(text)) < 2048
    except BadQuestion:
        return False


def terminal(file: Path, heard: Callable[[], None] = lambda: None) -> tuple[int, list[str], list[str]]:
    """Put a file of questions to `python -m compare`: exit status, questions that came back, lines on stderr.

    `heard` is called at each answer.
    """
    command = [sys.executable, "-m", "compare", "--json", "--max-new-tokens", "1", "--device", "cpu", "--questions"]
    asked, said = [], file.with_suffix(".said")
    with said.open("wb") as err:
        process = subprocess.Popen(
            [*command, str(file)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        for line in process.stdout or ():
            asked.append(json.loads(line)["question"])
            heard()
        process.wait()
    return process.returncode, asked, said.read_text(encoding="utf-8", errors="replace").strip().splitlines()


def check_questions(texts: list[str], file: Path, heard: Callable[[], None], found: Found) -> None:
    """All questions of a file come back, in order."""
    file.write_text("\n".join(json.dumps({"input": text}) for text in texts), encoding="utf-8")
    status, asked, said = terminal(file, heard)
    found.check(status == 0, f"the terminal ended with {status}: {said[-3:]}")
    found.check(asked == [valid_text(t) for t in texts], f"{len(asked)} of {len(texts)} questions came back in order")


def check_terminal(count: int, found: Found) -> None:
    prompt = prompt_of_embedded()
    sent = (json.loads(json.dumps(text)) for _, text in texts(count, seed=3))  # JSON joins halves that fit together
    good = [text for text in sent if fits(prompt, text)]
    progress, answers = Progress("text, terminal", len(good), "questions"), itertools.count(1)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as both:
        folder, half = Path(name), -(-len(good) // 2)  # for each of two terminals at once

        def ask(at: int) -> None:
            part = good[at : at + half]
            check_questions(part, folder / f"{at}.jsonl", lambda: progress.at(next(answers)), found)

        list(both.map(ask, (0, half)))
        file = folder / "questions.jsonl"
        for kind, content in (
            ("blank", b'{"input": " "}'),
            ("long", json.dumps({"input": "a b" * 300_000}).encode()),
            ("bytes", b"\xff\xfe\xfd"),
            ("nested", b'{"a":' * 50_000),
        ):
            file.write_bytes(content)
            status, _, said = terminal(file)
            found.check(
                status == 2 and sum(line.startswith("error: ") for line in said) == 1,
                f"the terminal on a {kind} file: {status}, {said[-1:]}",
            )
    found.figures |= {"questions to the terminal": len(good), "files refused by the terminal in one line": 4}
