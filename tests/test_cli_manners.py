"""How the commands speak: encodings, closed pipes, Ctrl-C, a file of questions in one batch, names, notes, ranges."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import ADAPTER, ASSETS, BASE, MOTTO

from compare.__main__ import main
from compare.columns_table import table
from compare.engine.answers import Column, answer_each
from compare.engine.interface import BASE as BASE_COLUMN
from compare.engine.interface import Question, Variant
from lens.cli import chosen_adapters, chosen_timeline, command
from lens.embedded import EMBEDDED_ADAPTER
from lens.errors import BadSetting

EMOJI = "哈工大 \N{GRINNING FACE} 校训"


def lines_of(text: str) -> list[dict]:
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def spoken(tiny_base: Path, encoding: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "compare", EMOJI, "\x1b]0;mine\x07b", "--base", tiny_base,
                           "--max-new-tokens", "2", *args], capture_output=True, timeout=240,
                          env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"})


def test_a_terminal_without_emoji_gets_escapes_and_no_row_steers_it(tiny_base):
    shown = spoken(tiny_base, "gbk")
    assert shown.returncode == 0, shown.stderr
    assert "哈工大 \\U0001f600 校训" in shown.stdout.decode("gbk")
    assert b"\x1b" not in shown.stdout and b"\x07" not in shown.stdout and b"\\x1b]0;mine\\x07b" in shown.stdout
    assert b"note: the shipped adapter does not fit base" in shown.stderr and shown.stderr.count(b"\n") == 1
    told = spoken(tiny_base, "ascii", "--json")
    assert told.returncode == 0 and [line["question"] for line in lines_of(told.stdout.decode("ascii"))] == [
        EMOJI, "\x1b]0;mine\x07b"]


@pytest.mark.parametrize("module", ["compare", "train"])
def test_a_reader_that_leaves_is_no_fault(module):
    """`| head -1` ended in a traceback, or in "Exception ignored"."""
    done = subprocess.run(f"{sys.executable} -m {module} --help | true; exit ${{PIPESTATUS[0]}}", shell=True,
                          executable="/bin/bash", capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 141) and done.stderr == ""


def test_a_reader_that_leaves_between_answers_is_no_fault(tiny_base, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"第{i}个问题" for i in range(400)), encoding="utf-8")
    command = f"{sys.executable} -m compare --questions {file} --base {tiny_base} --json --max-new-tokens 1"
    done = subprocess.run(f"{command} | head -1; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash",
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 141 and "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    assert json.loads(done.stdout)["question"] == "第0个问题"


def test_ctrl_c_keeps_what_is_printed(tiny_base, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"第{i}个问题" for i in range(3000)), encoding="utf-8")
    run = subprocess.Popen([sys.executable, "-m", "compare", "--questions", file, "--base", tiny_base, "--json"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = os.read(run.stdout.fileno(), 1).decode()  # readline would keep what follows from communicate
    run.send_signal(signal.SIGINT)
    rest, said = run.communicate(timeout=120)
    assert run.returncode == 130 and "Traceback" not in said and said.splitlines()[-1].startswith("interrupted; ")
    assert 1 <= len(lines_of(first + rest)) < 3000


def test_ctrl_c_in_the_middle_of_a_line_waits_for_its_end():
    printing = """
from lens.cli import command, print_json
@command
def main(argv=None):
    try:
        print_json(list(range(100_000)))
    finally:
        print_json("the end")
main()"""
    run = subprocess.Popen([sys.executable, "-c", printing], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert os.read(run.stdout.fileno(), 2) == b"[0"  # the pipe holds a tenth of the line, and nobody reads on
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    rest, _ = run.communicate(timeout=60)
    assert lines_of("[0" + rest) == [list(range(100_000)), "the end"]


def test_a_file_is_one_batch_in_input_order_and_a_bad_question_ends_no_other(tiny_base, tmp_path, capsys):
    file = tmp_path / "questions.jsonl"
    rows = [{"input": MOTTO}, {"input": "长" * 4000}, {"input": "哈", "instruction": "答"},
            {"input": "短" * 3000}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    asked = ["--questions", str(file), "--base", str(tiny_base), "--device", "cpu", "--max-new-tokens", "4"]
    assert main([*asked, "--json", "--plain-prompt"]) == 2
    found = lines_of(capsys.readouterr().out)
    assert [line["question"] for line in found] == [row["input"] for row in rows]
    assert [set(line) for line in found] == [{"question", "instruction", "prompt_ids", "columns"},
                                             {"question", "instruction", "error"}] * 2
    assert set(found[1]["error"]) == {"code", "message", "message_zh"}
    assert found[1]["error"]["code"] == "question-over-window" and "4016" in found[1]["error"]["message"]
    base, plain = found[0]["columns"]
    assert "prompt_ids" not in base and len(plain["prompt_ids"]) < len(found[0]["prompt_ids"])
    assert main(asked) == 2
    shown = capsys.readouterr()
    assert "哈" in shown.out and [line[:6] for line in shown.err.splitlines()] == ["note: ", "error:", "error:"]


def test_answers_of_a_batch_equal_those_asked_alone_and_come_before_the_last_is_finished(engine, monkeypatch):
    from compare import __main__ as terminal

    questions, printed = [Question(MOTTO), Question("哈工大首任校长是谁？"), Question("长" * 3000)], []
    whole = list(answer_each(engine, questions, engine.variants()))
    order = [whole[i] for i in (1, 2, 0)]  # the second question finishes first
    monkeypatch.setattr(terminal, "answer_each", lambda *_: (printed.append("finished") or one for one in order))
    terminal.ask_all(engine, questions, [], None, Namespace(print=lambda question, _: printed.append(question.text)))
    bad = next(index for index, (which, _) in enumerate(order) if which == 0)
    assert [p for p in printed if p != "finished"] == [q.text for q in questions]
    assert printed[:bad + 2].count(MOTTO) == 1
    alone = list(answer_each(engine, questions[1:2], engine.variants()))[0][1]
    together = dict(whole)[1]
    assert [c.token_ids for c in alone] == [c.token_ids for c in together]


@pytest.mark.parametrize("strength", ["nan", "inf", "1e999", "-11", "x"])
def test_a_strength_has_one_range(strength, capsys):
    assert main([MOTTO, f"--strength={strength}"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("error: ")
    assert "allowed: -10 to 10" in said.err


@pytest.mark.parametrize("spelled", ["relative", "slash", "link"])
def test_the_embedded_base_is_known_however_it_is_spelled(spelled, tmp_path, monkeypatch):
    monkeypatch.chdir(ASSETS.parent)
    (tmp_path / "link").symlink_to(BASE)
    base = {"relative": "assets/base", "slash": "./assets/base/", "link": str(tmp_path / "link")}[spelled]
    args = Namespace(base=base, adapter=[])
    assert chosen_adapters(args) == [EMBEDDED_ADAPTER] and len(chosen_timeline(args)) > 3
    assert chosen_timeline(Namespace(base=base, adapter=["assets/adapters/lens/"]))


def test_another_base_has_no_shipped_adapter(tiny_base):
    args = Namespace(base=str(tiny_base), adapter=[])
    assert chosen_adapters(args) == chosen_timeline(args) == []


def test_names_are_unique_and_told_once(capsys):
    assert main([MOTTO, "--strength", "1", "1", "--json", "--max-new-tokens", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    names = [column["variant"] for column in json.loads(said.out)["columns"]]
    assert len(set(names)) == 3 and names[:2] == ["base", "lens"]
    assert said.err.count("note: the name 'lens' is taken") == 1


def test_more_than_four_adapters_are_all_asked(tmp_path, capsys):
    adapters = [shutil.copytree(ADAPTER, tmp_path / f"number-{i}") for i in range(6)]
    assert main([MOTTO, "--adapter", *map(str, adapters), "--json", "--max-new-tokens", "2", "--device", "cpu"]) == 0
    assert [c["variant"] for c in json.loads(capsys.readouterr().out)["columns"]] == [
        "base", *(f"number-{i}" for i in range(6))]


def test_many_columns_stand_under_one_another_on_a_narrow_terminal():
    from rich.console import Console

    columns = [Column(variant, lambda ids: "一二三四五六七八九十" * 6, [1])
               for variant in (BASE_COLUMN, *(Variant.of(f"adapter-{i}") for i in range(6)))]
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    console.print(table(Question("问"), columns, 80))
    assert all(f"adapter-{i}" in console.export_text(clear=False) for i in range(6))


@pytest.mark.parametrize("ended, status, said", [
    (BadSetting("setting-out-of-range", option="a\x1bb\nc", value=1, allowed="2"), 2,
     "error: a\\x1bb\\nc is 1; allowed: 2\n"), (KeyboardInterrupt("kept"), 130, "kept\n"),
    (KeyboardInterrupt(), 130, ""), (SystemExit(0), 0, "")])
def test_statuses_and_lines_stand_in_one_place(ended, status, said, capsys):
    @command
    def main(argv=None):
        raise ended

    assert main([]) == status and capsys.readouterr().err == said
