"""docs/data.md is true: its files are written, its commands' options read, and what stands below them is what is said.

    ```jsonl file=NAME [encoding=…]   a file
    ```python                         run as it stands
    ```console                        a command of `python -m train`, then what is told and the rows as they are taught
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lens.declared_settings import parse_given
from lens.errors import LensError
from lens.rows.columns import KNOWN
from lens.rows.formats import FORMATS, WITH_HISTORY
from lens.rows.sources import ALLOWED
from train.data.dataset import load_dataset
from train.data.encoded import IGNORED
from train.data.forecast import about_length, about_rows
from train.settings import TrainSettings, chosen

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "data.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, dict[str, str], str]]:
    """(kind, options, text) of each block, in order."""
    return [(kind, dict(pair.split("=", 1) for pair in more.split()), text)
            for kind, more, text in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))]


def outcome(command: str, tokenizer) -> list[str]:
    """What a command's rows are told to be, and as what they are taught."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "train"], command
    s = chosen(parse_given(TrainSettings, "python -m train", "", words[3:]))
    try:
        data = load_dataset(s, tokenizer)
    except LensError as err:
        return [f"error: {err}"]
    taught = [(f"(system: {row.instruction}) " if row.instruction else "")
              + " · ".join(f"{question} → {answer}" for question, answer in row.turns) for row in data.rows]
    taught = [line.replace("\n", "⏎") for line in taught]
    return [str(note) for note in [*data.rows.notes(), *about_length(s, data), *about_rows(data)]] + taught


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> list[tuple[str, list[str], Path]]:
    """(command, what stands below it, the folder with the files) of every console block."""
    folder, found = tmp_path_factory.mktemp("documented"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, options, text in blocks():
            if kind == "python":
                exec(compile(text, str(DOCUMENT), "exec"), {})
            elif kind == "console":
                command, *below = text.splitlines()
                found.append((command.removeprefix("$ "), below, folder))
            else:
                Path(options["file"]).write_bytes(text.encode(options.get("encoding", "utf-8")))
    return found


def test_every_command_says_what_the_document_says(shown, tokenizer, monkeypatch):
    wrong = []
    for command, below, folder in shown:
        monkeypatch.chdir(folder)
        if (said := outcome(command, tokenizer)) != below:
            wrong.append("\n".join([f"$ {command}", *said]))
    assert not wrong, "\n\n".join(wrong)


def test_the_answers_and_their_endings_alone_are_learnt(shown, tokenizer, monkeypatch):
    learnt = 0
    for command, below, folder in shown:
        monkeypatch.chdir(folder)
        if below[0].startswith("error: ") or "--max-length" in command:
            continue
        data = load_dataset(chosen(parse_given(TrainSettings, "", "", shlex.split(command)[3:])), tokenizer)
        for row, encoded in zip(data.rows, data.encoded, strict=True):
            ids = [i for i in encoded["labels"] if i != IGNORED]
            assert tokenizer.decode(ids) == "".join(f"{answer}</s>" for _, answer in row.turns)
            learnt += 1
    assert learnt > 30


def test_every_format_has_an_example_of_three_rows(shown):
    taught = "\n".join("\n".join(below) for _, below, _ in shown)
    for format in (*FORMATS, WITH_HISTORY):
        if format.name != "HC3":
            assert re.search(rf"^[3-9] rows read as {re.escape(format.name)}$", taught, re.MULTILINE), format.name


def test_every_file_ending_and_every_known_key_is_named():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert not [ending for ending in re.findall(r"\.[a-z]{2,}", ALLOWED) if ending not in text]
    assert not [key for key in KNOWN if f"`{key}`" not in text.replace("_", "")]
