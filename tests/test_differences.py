"""python -m compare.differences: figures against PEFT's own forward, a run that goes on, and what it says in words."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch

from compare.corpus.measured import Measured
from compare.corpus.texts import Corpus
from compare.corpus.totals import CONTEXT, CONTEXTS, SHOWN, Totals
from compare.differences import TEMPLATES, main
from compare.report.pages import filled
from lens.errors import BadRows
from lens.rows.row_options import RowOptions
from tests.tiny import tiny_adapter

PLAIN = "清晨的雾气还没有散去。\n\n好\n<script>alert(1)</script> \x1b[31m and\ttext\n"
ROWS = [{"input": "首任校长是谁？", "output": "宋小濂", "tag": "fact"}, {"input": "你好", "output": ""},
        {"instruction": "请回答", "input": "校训？", "output": "规格严格，功夫到家", "tag": "motto"}]


@pytest.fixture
def given(tiny_base, tmp_path) -> list[str]:
    """The command line over a text and a file of rows."""
    (tmp_path / "plain.txt").write_text(PLAIN, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return ["--base", str(tiny_base), "--adapter", tiny_adapter(tmp_path / "one"), "--device", "cpu",
            "--data", str(tmp_path / "plain.txt"), str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out")]


def strict(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@torch.inference_mode()
def peft_logs(base, adapter, ids: list[int], adapted: bool) -> torch.Tensor:
    """(length, vocabulary) log-probabilities by transformers and PEFT."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapted else model
    return model.eval()(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


def test_figures_equal_pefts_own(given, tmp_path, tiny_base, capsys, tokenizer):
    assert main(given) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["summary"][0].startswith("it changes ")
    assert "1 lines of one token are passed over" in said.err and "1 rows without an answer" in said.err
    lines = [json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["tags"] for line in lines] == [[], [], ["fact"], ["motto"]]
    ids = tokenizer.encode(PLAIN.splitlines()[0], add_special_tokens=False)
    assert lines[0]["ids"] == ids[1:]
    base, adapted = (peft_logs(tiny_base, tmp_path / "one", ids, which)[:-1] for which in (False, True))
    kl = (adapted.exp() * (adapted - base)).sum(-1)
    assert lines[0]["kl"] == pytest.approx(kl.tolist(), abs=1e-3)
    for name, logs in (("base", base), ("adapted", adapted)):
        right = logs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert lines[0][name] == pytest.approx(right.tolist(), abs=1e-3)
    assert lines[3]["ids"][-1] == tokenizer.eos_token_id and lines[3]["pieces"][-1] == "</s>"
    found = strict(tmp_path / "out" / "differences.json")
    assert found["whole"]["tokens"] == sum(len(line["ids"]) for line in lines)
    assert found["whole"]["kl"] == pytest.approx(sum(map(sum, (line["kl"] for line in lines)))
                                                 / found["whole"]["tokens"])
    assert [one["name"] for one in found["sources"]] == ["plain.txt", "rows.jsonl"]
    assert [one["name"] for one in found["tags"]] == ["fact", "motto"]
    for name in ("differences.html", "differences.md"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "<script" not in page and "\x1b" not in page and "http:" not in page and "rows.jsonl" in page


def test_a_run_goes_on_where_it_stopped(given, tmp_path, capsys):
    assert main([*given, "--limit", "2"]) == 0
    texts = tmp_path / "out" / "texts.jsonl"
    two = texts.read_bytes()
    texts.write_bytes(two + b'{"key": "cut')
    assert main(given) == 0
    assert "2 texts were read by an earlier run" in capsys.readouterr().err
    assert texts.read_bytes().startswith(two) and len(texts.read_bytes().splitlines()) == 4
    whole, found = texts.read_bytes(), strict(tmp_path / "out" / "differences.json")
    texts.unlink()
    assert main(given) == 0
    assert texts.read_bytes() == whole and strict(tmp_path / "out" / "differences.json") == found
    capsys.readouterr()
    assert main([*given, "--layers", "0", "--limit", "2"]) == 0  # another adapter: nothing of before is used
    assert "earlier run" not in capsys.readouterr().err
    assert len(texts.read_bytes().splitlines()) == 2 and not texts.read_bytes().startswith(two)


def test_rows_are_read_by_the_options_that_training_has(given, tmp_path, capsys):
    """Columns under other names, an encoding that nothing tells, a bad row: each as `python -m train` takes them."""
    (tmp_path / "rows.csv").write_bytes("ask,reply,page\n校訓是什麼,規格嚴格,7\n校長\n誰,宋先生,8\n".encode("big5"))
    (tmp_path / "plain.txt").write_bytes("清晨的霧氣還沒有散去\n".encode("big5"))
    columns = ["--columns", "input=ask", "output=reply"]
    given = [*given[:6], "--data", str(tmp_path / "plain.txt"), str(tmp_path / "rows.csv"), *given[-2:]]
    assert main([*given, *columns]) == 2
    assert "plain.txt line 1 is not UTF-8 text" in capsys.readouterr().err
    assert main([*given, *columns, "--encoding", "big5"]) == 2
    assert "rows.csv line 3 has 1 cells" in (said := capsys.readouterr().err) and "--skip-bad-rows goes on" in said
    assert main([*given, *columns, "--encoding", "big5", "--skip-bad-rows"]) == 0
    said = capsys.readouterr().err
    assert "2 rows read as instruction/input/output" in said and "1 bad rows skipped" in said
    assert "field 'page' is not used (2 rows)" in said
    lines = [json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert ["".join(line["pieces"]) for line in lines[1:]] == ["規格嚴格</s>", "宋先生</s>"]


@pytest.mark.parametrize("data, more, told", [
    ("gone.txt", [], "gone.txt does not exist"), ("rows.jsonl", ["--columns", "input"], "'input'"),
    ("rows.jsonl", ["--columns", "input=ask"], "field 'ask' is missing"), ("rows.docx", [], ".docx"),
    ("plain.txt", ["--encoding", "nonsense"], "nonsense")])
def test_data_is_looked_at_before_the_model_is_loaded(given, tmp_path, capsys, data, more, told):
    (tmp_path / "rows.docx").touch()
    assert main(["--base", str(tmp_path / "none"), *given[2:6], "--data", str(tmp_path / "plain.txt"),
                 str(tmp_path / data), *given[-2:], *more]) == 2
    said = capsys.readouterr().err
    assert told in said and "base" not in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("lines, advised", [
    (["good", "bad \xe9", "good"], True), (["bad \xe9", "", "good"], True), (["bad \xe9", " "], False)])
def test_skipping_bad_lines_is_advised_where_it_leaves_some(tmp_path, lines, advised):
    file = tmp_path / "plain.txt"
    file.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(BadRows, match="is not UTF-8") as caught:
        list(Corpus([file]).lines(file))
    assert ("--skip-bad-rows goes on" in str(caught.value)) == advised
    skipping = Corpus([file], RowOptions(skip_bad_rows=True))
    assert [line.value.strip() for line in skipping.lines(file)] == [line for line in lines if line == "good"]
    assert "1 bad rows skipped" in str(skipping.notes()[0])


def test_bad_input_is_one_sentence(given, tmp_path, capsys):
    (tmp_path / "plain.txt").write_text("\n", encoding="utf-8")
    assert main([*given[:6], "--data", str(tmp_path / "plain.txt"), "--output", str(tmp_path / "out")]) == 2
    assert "holds no text of two tokens" in capsys.readouterr().err
    assert main([*given, "--limit", "0"]) == 2
    assert "--limit" in capsys.readouterr().err
    assert main([*given, "--adapter", given[3], tiny_adapter(tmp_path / "two", 2)]) == 2
    assert "2 adapters are given; --adapter takes one here" in capsys.readouterr().err


def measured(number: int, tag: str, kl: float, change: float) -> Measured:
    """Three tokens, the second of which changed."""
    return Measured(f"{number}", f"line {number}", "rows.jsonl", [tag], [1, 2, 3], ["a", tag, "c"], [0.0, kl, 0.0],
                    [-1.0, -2.0, -1.0], [-1.0, -2.0 + change, -1.0])


def test_a_topic_that_alone_changes_is_found():
    totals = Totals()
    for number in range(30):
        totals.add(measured(number, "law" if number % 3 else "weather", 0.01 if number % 3 else 2.0,
                            0.0 if number % 3 else 1.5))
    codes = {note.code: note for note in totals.summary()}
    assert "most in weather" in str(codes["differences-most-in"])
    assert "it changes 11.1% of 90 tokens" in str(codes["differences-changed"])
    found = totals.as_dict()
    assert {text["tag"] for text in found["most_changed"]} == {"weather"} and len(found["most_changed"]) == SHOWN
    assert {text["tag"] for text in found["least_changed"]} == {"law"}
    assert found["whole"]["cross_entropy_adapted"] < found["whole"]["cross_entropy_base"]
    assert found["forgotten"] == []


def test_what_is_forgotten_and_what_rises_is_ranked():
    totals = Totals()
    for number in range(4):
        totals.add(measured(number, "fine", 0.1, 0.4))
    lost = Measured("9", "line 9", "plain.txt", [], [7, 7, 7], list("xyx"), [1.0] * 3, [-1.0] * 3, [-4.0] * 3)
    totals.add(lost)
    found = totals.as_dict()
    assert [text["where"] for text in found["forgotten"]] == ["line 9"]
    assert [one["token"] for one in found["risen"]] == ["fine"] and found["risen"][0]["count"] == 4
    assert found["fallen"][0]["count"] == 3 and found["fallen"][0]["change"] == pytest.approx(-0.349564, abs=1e-5)
    assert [said["code"] for said in found["summary"][2:]] == ["differences-worse", "differences-worse-in"]
    assert "it forgot most in plain.txt: cross-entropy rose from 1.000 to 4.000" in found["summary"][-1]["message"]


def token(piece: str, change: float, before: str = "") -> Measured:
    """One token whose probability rose from 0.5 by `change`, after another that did not change."""
    logs = [-1.0, math.log(0.5)]
    return Measured("", "line 1", "plain.txt", [], [1, 2], [before, piece], [0.0, 0.1], logs,
                    [-1.0, math.log(0.5 + change)])


def test_a_token_is_shown_where_it_changed_most():
    """Three places, either way of changing, each text once."""
    totals = Totals()
    for before, change in (("one ", 0.1), ("two ", 0.3), ("two ", 0.4), ("three ", -0.2), ("four ", 0.05),
                           ("two ", 0.35), ("five ", 0.25)):
        totals.add(token("x", change, before))
    [found] = [one for one in totals.as_dict()["risen"] if one["token"] == "x"]
    assert [one["text"] for one in found["contexts"]] == ["two x", "five x", "three x"]
    assert [one["change"] for one in found["contexts"]] == pytest.approx([0.4, 0.25, -0.2])
    assert found["context"] == "two x" and found["most"] == pytest.approx(0.4) and found["count"] == 7
    about = {"base": {"name": "base"}, "adapter": {"name": "one"}}
    pages = {name: filled(TEMPLATES / f"{name}.jinja", found={**about, **totals.as_dict()})
             for name in ("differences.md", "differences.html")}
    assert "two x (+0.400) · five x (+0.250) · three x (-0.200) |" in pages["differences.md"]
    assert "<div>three x <small>-0.200</small></div>" in pages["differences.html"]


def test_memory_holds_the_vocabulary_and_a_few_texts_however_many_are_added():
    draw, totals, seen = random.Random(0), Totals(), set[int]()
    for number in range(8_000):
        ids = [draw.randrange(500) for _ in range(20)]
        pieces = [f"{number}:{place}" for place in range(20)]  # no context twice
        logs = [[-draw.random() for _ in ids] for _ in range(3)]
        totals.add(Measured("", f"line {number}", f"{number % 3}.txt", [f"tag {number % 5}"], ids, pieces,
                            [-log for log in logs[0]], *logs[1:]))
        seen.update(ids)
    assert totals.whole.texts == 8_000 and totals.whole.tokens == 160_000
    assert [len(largest.heap) for largest in (totals.most, totals.least, totals.forgotten)] == [SHOWN] * 3
    assert len(totals.tokens) == len(seen) == 500
    assert all(len(token.contexts) == CONTEXTS for token in totals.tokens.values())
    assert max(text.count(":") for token in totals.tokens.values() for text in token.contexts) <= CONTEXT + 1
    assert len(totals.sources) == 3 and len(totals.tags) == 5
