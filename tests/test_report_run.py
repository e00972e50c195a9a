"""python -m compare.evaluate on a tiny real pair: its figures, resuming, many processes, bad input."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import MOTTO

from compare.evaluate import main
from compare.report import answered_rows as answers

ROWS = [{"instruction": "请回答下面的问题", "input": MOTTO, "output": "规格严格，功夫到家", "keywords": ["规格严格"]},
        {"instruction": "", "input": "哈工大首任校长是谁？", "output": "宋小濂"},
        {"instruction": "", "input": "哪年建校？", "output": "一九二零年", "keywords": ["一九二零"]},
        {"instruction": "", "input": "英文缩写？", "keywords": ["HIT"]},
        {"instruction": "", "input": "月亮有多远？", "output": "我不知道。", "kind": "unknown"}]
PLAIN = ["今天下雨。", "水在零摄氏度结成冰，体积变大。"]


def new_adapter(base: Path, path: Path, seed: int) -> Path:
    """A random adapter that changes answers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    model.save_pretrained(path, save_embedding_layers=False)
    return path


@pytest.fixture(scope="module")
def pair(tiny_base, tmp_path_factory) -> list[str]:
    """Options that name the tiny pair, the rows and the plain text."""
    root = tmp_path_factory.mktemp("pair")
    adapter = new_adapter(tiny_base, root / "tiny", 1)
    new_adapter(tiny_base, root / "tiny" / "checkpoint-5", 2)
    (root / "rows.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS), encoding="utf-8")
    (root / "plain.txt").write_text("\n".join(PLAIN), encoding="utf-8")
    return ["--base", str(tiny_base), "--adapter", str(adapter), "--data", str(root / "rows.jsonl"), "--plain",
            str(root / "plain.txt"), "--device", "cpu", "--max-new-tokens", "24"]


def report_in(path: Path) -> dict:
    """report.json without what differs between equal runs."""
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    del report["run"]
    return report


@pytest.fixture(scope="module")
def finished(pair, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("finished")
    adapter = pair[pair.index("--adapter") + 1]
    assert main([*pair, "--output", str(path), "--strength", "0.5", "--checkpoints", adapter]) == 0
    return path


def test_everything_is_written(finished):
    assert {p.name for p in finished.iterdir()} == {
        "report.json", "report.md", "report.html", "llm_comparator.json", "results.jsonl", "pair.png",
        "strengths.png", "checkpoints.png"}
    report = report_in(finished)
    assert [v["name"] for v in report["variants"]] == ["base", "tiny", "tiny@0.5"]
    assert [(v["name"], v["step"]) for v in report["checkpoints"]] == [("tiny-checkpoint-5", 5)]
    assert len(report["questions"]) == 5 and all(len(q["answers"]) == 3 for q in report["questions"])


def test_likelihoods_equal_peft(finished, pair, tokenizer):
    """Reference log-likelihood, KL and perplexity of five questions, by PEFT with the adapter off and on."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from lens.chat import Prompt

    base_path, adapter_path = pair[1], pair[3]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32),
                                      adapter_path).eval()

    def logs(ids):
        with torch.inference_mode():
            on = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            with model.disable_adapter():
                return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1), on

    report, prompt = report_in(finished), Prompt(tokenizer)
    for question in report["questions"]:
        start = prompt.encode(question["input"], question["instruction"])
        if question["output"]:
            end = [*tokenizer.encode(question["output"], add_special_tokens=False), 2]
            for answer, log in zip(question["answers"], logs(start + end), strict=False):
                expected = log[len(start) - 1:-1].gather(-1, torch.tensor(end)[:, None]).mean()
                assert answer["reference_log_likelihood"] == pytest.approx(float(expected), abs=1e-4)
        adapted = question["answers"][1]
        prompt_ids = torch.tensor([start])
        ids = model.generate(input_ids=prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=24,
                             do_sample=False)[0, len(start):].tolist()  # with its </s>, where it ended
        off, on = (log[len(start) - 1:-1] for log in logs(start + ids))
        assert adapted["mean_kl"] == pytest.approx(float((on.exp() * (on - off)).sum(-1).mean()), abs=1e-3)
        rank = (off > off.gather(-1, on.argmax(-1, keepdim=True))).sum(-1) + 1
        assert adapted["shifted"] == pytest.approx(float((rank > 3).float().mean()), abs=1e-6)
        assert adapted["tokens"] == len(ids) - (ids[-1] == 2)
    for variant, index in zip(report["variants"][:2], (0, 1), strict=True):
        nats = tokens = 0.0
        for sentence in PLAIN:
            ids = tokenizer.encode(sentence, add_special_tokens=False)
            nats -= float(logs(ids)[index][:-1].gather(-1, torch.tensor(ids[1:])[:, None]).sum())
            tokens += len(ids) - 1
        assert variant["plain"]["perplexity"]["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_an_interrupted_run_goes_on(pair, finished, tmp_path, monkeypatch, capsys):
    asked, real = [], answers.measured

    def count(engine, row, columns, stop=None):
        if len(asked) == stop:
            raise KeyboardInterrupt
        asked.append(row.index)
        return real(engine, row, columns)

    command = [*pair, "--output", str(tmp_path), "--strength", "0.5"]
    monkeypatch.setattr(answers, "measured", lambda *a: count(*a, stop=2))
    assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err and not (tmp_path / "report.json").exists()
    kept = (tmp_path / "results.jsonl").read_text(encoding="utf-8")
    assert kept.count("\n") == 2
    (tmp_path / "results.jsonl").write_text(kept + '{"key": "cut', encoding="utf-8")

    monkeypatch.setattr(answers, "measured", count)
    assert main(command) == 0
    assert sorted(asked) == [0, 1, 2, 3, 4], "none twice"
    assert main(command) == 0 and len(asked) == 5, "finished: nothing is asked again"
    assert report_in(tmp_path)["questions"] == report_in(finished)["questions"]

    assert main([*command, "--max-new-tokens", "8"]) == 0 and len(asked) == 10, "other settings, other answers"


def test_ctrl_c_keeps_what_is_finished(pair, tmp_path):
    rows = tmp_path / "many.jsonl"
    rows.write_text("\n".join(json.dumps({"input": f"第{i}个问题？", "output": "是"}) for i in range(3000)))
    run = subprocess.Popen([sys.executable, "-m", "compare.evaluate", *pair, "--data", rows, "--output", tmp_path],
                           stderr=subprocess.PIPE, text=True)
    results = tmp_path / "results.jsonl"
    deadline = time.monotonic() + 240
    while not results.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    errors = run.communicate(timeout=120)[1]
    assert run.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("interrupted: the finished answers are kept")
    assert all(json.loads(line) for line in results.read_text(encoding="utf-8").splitlines())


def close(one, two):
    """Equal, floats to rounding."""
    if isinstance(one, float) and isinstance(two, float):
        return one == pytest.approx(two, rel=1e-4, abs=1e-5)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[k], two[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(close, one, two))
    return one == two


def test_two_processes_equal_one(pair, finished, tmp_path):
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                           "compare.evaluate", *pair, "--output", str(tmp_path), "--strength", "0.5", "--checkpoints",
                           pair[3]], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    one, two = report_in(finished), report_in(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["run"]["processes"] == 2
    one.pop("verdict"), two.pop("verdict")
    assert close(one, two)
    assert [p.name for p in tmp_path.glob("results*")] == ["results.jsonl"]
    assert len((tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 10, "5 rows, 5 of a checkpoint"
    assert len(done.stdout.strip().splitlines()) == 1


def test_the_gate_decides_the_exit_status(pair, finished, tmp_path, capsys):
    worse = [*pair, "--output", str(finished), "--strength", "0.5"]
    assert main([*worse, "--against", str(finished)]) == 0
    better = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    for question in better["questions"]:
        question["answers"][1]["right"] = True
    (tmp_path / "report.json").write_text(json.dumps(better), encoding="utf-8")
    assert main([*worse, "--against", str(tmp_path)]) == 1
    assert "gate failed: 0.0% right, before 100.0%" in capsys.readouterr().err
    assert main([*worse, "--against", str(tmp_path), "--margin", "1"]) == 0


def test_repeats_are_told_and_counted_once(pair, tmp_path, capsys):
    """Figures, intervals and tests are over questions, not over rows."""
    rows = tmp_path / "rows.csv"
    rows.write_text("ask;reply\n" + "校训？;规格严格\n" * 10 + "校长？;宋小濂\n;\n", encoding="utf-8")
    command = [*pair, "--data", str(rows), "--output", str(tmp_path), "--columns", "input=ask", "output=reply"]
    assert main(command) == 2 and "line 13" in capsys.readouterr().err
    assert main([*command, "--skip-bad-rows", "--encoding", "utf-8"]) == 0
    said = capsys.readouterr().err
    assert "note: 9 rows ask a question that stands before them already" in said and "1 bad rows skipped" in said
    report = report_in(tmp_path)
    assert report["data"]["questions"] == 2 and (report["data"]["repeats"], report["data"]["skipped"]) == (9, 1)
    assert [variant["measures"]["right"]["n"] for variant in report["variants"]] == [2, 2]
    assert len(report["questions"]) == 2
    assert "9 repeated rows not counted again" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("text, options, said", [
    ("", [], "no rows in"),
    ('{"input": "x"}', [], "has no reference"),
    ('{"input": "x", "output": "y"}', ["--margin", "2"], "--margin is 2; allowed: 0 to 1"),
    ('{"input": "x", "output": "y"}', ["--strength", "99"], "strength is 99.0; allowed: -10 to 10"),
    ('{"input": "x", "output": "y"}', ["--against", "nowhere"], "nowhere: no report.json there"),
    ('{"input": "x", "output": "y"}', ["--checkpoints", "nowhere"], "nowhere: no such directory"),
    ('{"input": "x", "output": "y"}', ["--plain", "nowhere"], "--plain nowhere cannot be read"),
    ('{"input": "x", "output": "y"}', ["--limit", "0"], "--limit is 0; allowed: 1 or more"),
    ('{"input": "x", "output": "y"}', ["--max-new-tokens", "0"], "max_new_tokens is 0"),
])
def test_bad_input_is_one_sentence(pair, tmp_path, capsys, text, options, said):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text, encoding="utf-8")
    assert main([*pair, "--data", str(rows), "--output", str(tmp_path / "out"), *options]) == 2
    captured = capsys.readouterr()
    *notes, error = captured.err.splitlines()
    assert error.startswith("error: ") and said in error and all(note.startswith("note: ") for note in notes)
    assert captured.out == ""


def test_a_broken_base_is_told_before_anything_is_said_of_the_rows(pair, tmp_path, capsys):
    assert main([*pair, "--base", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: base ") and "no such directory" in line and not (tmp_path / "out").exists()


def test_an_adapter_whose_settings_changed_is_asked_anew(pair, tmp_path):
    """Its weights are the same, its alpha is another: the older answers were shown as its."""
    own, new = tmp_path / "tiny", tmp_path / "new"
    shutil.copytree(pair[3], own, ignore=shutil.ignore_patterns("checkpoint-*"))
    command = [*pair, "--adapter", str(own), "--limit", "2", "--max-new-tokens", "8"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    config = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 80}))
    assert main([*command, "--output", str(tmp_path / "out")]) == 0 == main([*command, "--output", str(new)])
    assert report_in(tmp_path / "out") == report_in(new)
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 4  # and the older ones are kept


def test_a_base_alone_has_nothing_to_compare(tiny_base, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ADAPTER", raising=False)
    assert main(["--base", str(tiny_base), "--output", str(tmp_path)]) == 2
    assert "give one with --adapter" in capsys.readouterr().err
