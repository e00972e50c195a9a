"""Trainings behind the Train tab, without a browser: who may start one, what is refused, found again, made a column."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from one_tab import FACTS

from compare.engine.interface import Shape
from compare.engine.local import LocalEngine
from compare.page.shared.model_sizes import Shape as sizes_of
from compare.page.training import preview, progress
from compare.page.training import tab as training
from compare.page.training.panel import values_of
from compare.page.training.preview import Preview
from compare.page.training.tab import TrainingTab
from compare.server.permissions import Permission
from compare.server.trainings import declared, memory
from compare.server.trainings.job import Job, Plan, find_jobs
from compare.server.trainings.trainings import Trainings, Upload, trainings_home
from lens.errors import LensError

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
OPEN = Permission(None)
HERE = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}


def stand_in(base: object) -> SimpleNamespace:
    """What trainings read of an engine that is not asked anything."""
    facts = replace(FACTS, base=str(base), parameters=10_000, shape=Shape(8064, 32, 2, 4))
    return SimpleNamespace(facts=facts, adapters={}, variants=lambda strengths: [])


@pytest.fixture
def shop(tiny_base, tmp_path):
    return Trainings(stand_in(tiny_base), OPEN, tmp_path / "home")


@pytest.fixture
def idle(shop, monkeypatch):
    """Trainings that never run: what it would start is written down and no process made."""
    monkeypatch.setattr(Job, "run", lambda self: None)
    monkeypatch.setattr(Trainings, "watch", lambda self, job: None)
    return shop


@pytest.mark.parametrize("host, share, wanted, environ, closed", [
    (None, False, None, {}, None), ("localhost", False, None, {}, None), ("::1", False, None, {}, None),
    ("0.0.0.0", False, None, {}, "open to other machines (0.0.0.0)"),
    (None, False, None, {"GRADIO_SERVER_NAME": "0.0.0.0"}, "open to other machines (0.0.0.0)"),
    (None, True, None, {}, "open to other machines (--share)"), (None, False, False, {}, "not open here"),
    ("0.0.0.0", False, True, {}, None), (None, False, None, {"SPACE_ID": "a/b"}, "no training on a Space"),
    (None, False, True, {"SPACE_ID": "a/b"}, "no training on a Space")])
def test_training_is_open_on_this_machine_alone(host, share, wanted, environ, closed):
    found = Permission.of(host, share, wanted, environ).closed
    assert found is None if closed is None else closed in str(found)


@pytest.mark.parametrize("changes", [
    {"origin": "https://elsewhere.example"}, {"origin": "null"}, {"origin": ""},
    {"host": "elsewhere.example:7860", "origin": "http://elsewhere.example:7860"},  # a name that was rebound to us
    {"origin": "http://127.0.0.1:9999"}, {"sec-fetch-site": "cross-site"}, {"host": ""}, {"origin": "{0}http://[x"}])
def test_a_request_from_elsewhere_starts_nothing(idle, changes):
    request = SimpleNamespace(headers={**HERE, **changes})
    *_, told = TrainingTab(idle).start("shipped", None, "lens", 10, False, request)
    assert "did not come from this page" in told and not find_jobs(idle.home)
    *_, told = TrainingTab(idle).start("shipped", None, "lens", 10, False, SimpleNamespace(headers=HERE))
    assert not told and [job.number for job in find_jobs(idle.home)] == [1]


def test_where_it_is_closed_the_tab_says_why_and_offers_nothing(tiny_base, tmp_path):
    closed = Permission.of("0.0.0.0", False, None, {})
    for shop in (None, Trainings(stand_in(tiny_base), closed, tmp_path)):
        with gr.Blocks() as blocks:
            training.build(None, shop)
        assert not any(isinstance(block, gr.Button) for block in blocks.blocks.values())
    assert any("0.0.0.0" in str(b.value) for b in blocks.blocks.values() if isinstance(b, gr.HTML))
    with pytest.raises(LensError, match="0.0.0.0"):
        TrainingTab(shop).allow(SimpleNamespace(headers=HERE))


@pytest.mark.parametrize("recipe, steps, said", [
    ("lens", 0, "steps is 0"), ("lens", 10_001, "1 – 10,000"), ("lens", 2.5, "steps is 2.5"), ("lens", None, "None"),
    ("lens", float("nan"), "steps is nan"), ("--output", 10, "recipe is '--output'; allowed: lens, seed")])
def test_settings_out_of_range_are_refused(idle, recipe, steps, said):
    with pytest.raises(LensError, match=said):
        idle.start(recipe, steps)
    assert not find_jobs(idle.home)


def test_a_file_is_taken_from_the_upload_folder_alone(tmp_path):
    folder, other = tmp_path / "uploads", tmp_path / "other.jsonl"
    (folder / "x").mkdir(parents=True)
    rows = folder / "x" / "my rows.jsonl"
    for path in (rows, other, folder / "x" / "rows.txt"):
        path.write_text("{}")
    (folder / "link.jsonl").symlink_to(other)
    assert Upload.of(str(rows), folder) == Upload(rows, "my rows.jsonl")
    for bad in (None, "", str(other), str(folder / ".." / "other.jsonl"), str(folder / "link.jsonl"), str(folder / "x"),
                str(folder / "x" / "rows.txt"), "/etc/passwd", "http://elsewhere.example/rows.jsonl"):
        with pytest.raises(LensError):
            Upload.of(bad, folder)


def test_an_upload_is_copied_and_named_by_us(idle, tmp_path, rows_file):
    upload = Upload(rows_file.rename(tmp_path / "--output=x; rm.jsonl"), "--output=x; rm.jsonl")
    job = idle.start("seed", 20, upload, skip_bad_rows=True)
    assert (job.folder / "rows.jsonl").read_bytes() == upload.path.read_bytes()
    command = Job(job.folder).command()
    assert command[command.index("--data") + 1] == str(job.folder / "rows.jsonl") and "--skip-bad-rows" in command
    assert command[command.index("--output") + 1] == str(job.output) and "--resume" not in command
    assert upload.name not in " ".join(command)


def test_the_panel_has_the_command_lines_own_defaults(idle):
    """Declared once, in train/settings.py; what is left as it is gives no option."""
    from train.settings import chosen

    for recipe in ("lens", "seed"):
        usual = vars(chosen({"recipe": recipe}))
        assert declared.defaults(recipe) == {name: usual[name] for name in declared.OFFERED}
        job = idle.start(recipe, 10, values=dict(zip(declared.OFFERED, values_of(recipe), strict=True)))
        assert not job.plan.options


def test_what_the_panel_says_is_what_is_trained(idle):
    from lens.declared_settings import parse_given
    from train.settings import TrainSettings, chosen

    idle.engine.adapters["mine"] = SimpleNamespace(path=Path("/a/mine"))
    wanted = {"r": 16, "lora_alpha": 32.0, "lora_dropout": 0, "target_modules": ["query_key_value", "dense"],
              "learning_rate": 0.002, "schedule": "linear", "batch": 4, "max_length": 64, "drop_cut_rows": True,
              "seed": 7, "columns": "input=a b output=c", "encoding": "gb18030", "from_adapter": "mine"}
    job = idle.start("lens", 40, values=wanted)
    s = parse_given(TrainSettings, "", "", Job(job.folder).command()[3:])
    assert {name: s[name] for name in wanted} == {**wanted, "columns": ["input=a", "b", "output=c"],
                                                  "from_adapter": "/a/mine"}
    assert s["max_steps"] == 40 and chosen({"r": s["r"]}).r == 16
    told = job.plan.told()
    assert told.startswith("python -m train ") and "--learning-rate=0.002" in told and "--output runs/mine" in told
    assert told in progress.draw_progress(idle).replace("&#39;", "'").replace("&amp;", "&")


@pytest.mark.parametrize("values, said", [
    ({"columns": "input=a --push-to-hub evil/x"}, "columns is"), ({"r": "many"}, "r is 'many'; allowed: 1 to 1024"),
    ({"r": 2.5}, "r is 2.5"), ({"schedule": "--output"}, "allowed: linear, cosine, constant"),
    ({"target_modules": ["--output"]}, "target_modules is"), ({"from_adapter": "/etc"}, "from_adapter is '/etc'"),
    ({"seed": float("inf")}, "seed is inf"), ({"batch": None}, "batch is None")])
def test_no_value_of_the_panel_becomes_another_option(idle, values, said):
    with pytest.raises(LensError, match=said):
        idle.start("lens", 10, values=values)
    assert not find_jobs(idle.home)


def test_epochs_are_steps_by_the_rows_there_are(idle, rows_file, monkeypatch):
    monkeypatch.setattr(training.Upload, "of", lambda file, folder: Upload(rows_file, "mine.jsonl"))
    values = [3, *values_of("lens")[1:]]  # four rows, three times each, 16 a step
    values[declared.OFFERED.index("batch")] = 2
    *_, told = TrainingTab(idle).start("upload", str(rows_file), "lens", 10, False, SimpleNamespace(headers=HERE),
                                       *values)
    assert not told and idle.current().plan.steps == 6


def test_a_finished_training_is_packed_continued_and_deleted(idle, tmp_path):
    import zipfile

    with pytest.raises(LensError, match="Nothing of this training"):
        idle.pack(tmp_path)
    job = written(idle, log_jsonl='{"step": 6, "loss": 1.5}')
    (job.output / "adapter_config.json").write_text("{}")
    (job.output / "optimizer.pt").write_text("large")
    assert job.state() == "done"
    with zipfile.ZipFile(idle.pack(tmp_path)) as packed:
        assert packed.namelist() == ["trained-1/adapter_config.json"]
    with pytest.raises(LensError, match="no training to go on"):
        idle.resume()
    job = idle.resume(4)
    assert job.plan.steps == 10 and "--resume" in job.command() and "--max-steps=10" in job.command()
    html = progress.draw_progress(idle)
    assert 'data-do="remove"' in html and 'data-do="pack"' in html
    idle.delete()
    assert not job.folder.exists() and idle.current() is None
    with pytest.raises(LensError, match="no training to delete"):
        idle.delete()


def test_one_at_a_time_and_only_where_there_is_memory(idle, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 500_000_000)
    with pytest.raises(LensError, match="0.5 GB are free"):
        idle.start("lens", 10)
    monkeypatch.undo()
    monkeypatch.setattr(Job, "process", lambda self: "still there")
    Job(idle.new_job().folder).write(Plan(idle.base, "lens", 10))
    with pytest.raises(LensError, match="number 1, step 0"):
        idle.start("lens", 10)


def test_memory_is_told_for_what_a_base_is():
    def taken(parameters: int, *sizes: int) -> int:
        shape = Shape(*sizes, 8)
        linears = sizes_of("", shape.hidden_size, shape.n_layer).linears
        return memory.of_training(replace(FACTS, parameters=parameters, shape=shape, linears=linears))

    small, large = taken(6_800_000, 8064, 256, 6), taken(1_065_314_304, 250_880, 1536, 24)
    assert memory.of_training(FACTS) == memory.PROCESS + 4 * (
        FACTS.parameters + 2 * 64 * 8064 + 2048 * 6 * 256 * 17)  # of BLOOM, by hand
    assert small < 2e9 < 4 * 1_065_314_304 < large < 14e9 and memory.free("cpu") > 0


def test_rows_are_shown_as_they_will_be_taught_and_a_bad_one_is_named(idle, rows_file):
    plan = idle.plan("lens", 1, Upload(rows_file, "mine.jsonl"))
    found = preview.look(plan)
    assert (found.rows, found.duplicates, found.cut, sum(found.lengths.values())) == (4, 2, 0, 4)
    assert found.learnt == "规格严格，功夫到家</s>" and found.read.endswith("智能助手\n")
    with rows_file.open("a") as file:
        file.write('\n{"input": "' + ATTACK.replace('"', "'") + '"}')
    said = "mine.jsonl line 5: field 'output' is missing.*skip bad rows"
    with pytest.raises(LensError, match=said) as told:
        preview.look(plan)
    assert str(rows_file.parent) not in str(told.value) and "--" not in str(told.value)
    assert "第 5 行" in told.value.zh or "mine.jsonl line 5：缺少字段" in told.value.zh, "in both languages"
    skipped = preview.draw_preview(preview.look(idle.plan("lens", 1, Upload(rows_file, "mine.jsonl"), True)))
    assert "1 bad rows skipped" in skipped and "跳过了 1 个坏行" in skipped and "<img" not in skipped


def test_the_histogram_has_every_row_once():
    lengths = {"3": 5, "200": 7, "256": 1, "257": 2, "9000": 3}
    found = preview.bars(lengths, 256)
    assert sum(bar.rows for bar in found) == 18 and len(found) <= preview.BARS + 1
    assert found[-1].high is None and found[-1].rows == 3
    assert [bar.rows for bar in preview.bars({"7": 2}, 256)] == [0, 0, 0, 0, 0, 0, 2]
    html = preview.draw_preview(Preview(1, 0, 0, 0, 0, 256, {"7": 1}, ATTACK, ATTACK,
                                [{"instruction": "", "input": ATTACK, "output": ATTACK}]))
    assert "<img" not in html


def written(shop: Trainings, **files: str) -> Job:
    """A job of six steps with these files in its adapter directory."""
    job = shop.start("lens", 6)
    job.output.mkdir()
    for name, text in files.items():
        (job.output / name.replace("_", ".")).write_text(text)
    return job


def test_a_training_is_drawn_from_its_files_and_its_text_is_escaped(idle):
    probes = [{"step": step, "question": ATTACK, "answer": said, "finish": "stop"}
              for step, said in ((1, "甲"), (2, "甲"), (3, ATTACK), (4, "丙"))]
    log = '{"step": 1, "loss": 4.0, "tokens_per_second": 1234.5}\n{"step": 2, "loss": 1.5}\n{"st'
    job = written(idle, log_jsonl=log,
                  probes_jsonl="\n".join(map(json.dumps, probes)))
    html = progress.draw_progress(idle)
    assert job.state() == "failed" and 'data-state="failed"' in html and 'data-do="resume"' in html
    assert "<img" not in html and 'data-turns="3"' in html and html.index("丙") < html.index("甲")
    assert 'data-figure="loss">1.500<' in html and 'data-losses="2"' in html and ">2<small> / 6<" in html
    (job.folder / "stop").touch()
    (job.folder / "process.json").write_text(json.dumps({"pid": 1, "created": 0}))  # a number that another has now
    assert Job(job.folder).state() == "stopped"


def test_a_plan_that_cannot_be_read_or_of_another_base_is_passed_over(idle):
    first = idle.start("lens", 6)
    for text in ("{", '{"base": 1}', json.dumps({"base": "/other", "recipe": "lens", "steps": 6})):
        (idle.new_job().folder / "plan.json").write_text(text)
    assert idle.current() == first and idle.new_job().number == 5


def test_trainings_lie_where_the_variable_says():
    assert trainings_home({"LENS_TRAININGS": "/tmp/x"}) == Path("/tmp/x")
    assert trainings_home({"HOME": "/h", "XDG_DATA_HOME": "/d"}).name == "trainings"


def test_a_training_runs_stops_is_found_again_resumes_and_becomes_a_column(tiny_base, tmp_path, rows_file):
    engine, home = LocalEngine(str(tiny_base), device="cpu"), tmp_path / "home"
    shop = Trainings(engine, OPEN, home)
    job = shop.start("lens", 400, Upload(rows_file, "mine.jsonl"))
    with pytest.raises(LensError, match="under way"):
        shop.start("lens", 10)
    until(lambda: job.step() > 2)
    again = Trainings(engine, OPEN, home)  # a server that was started anew
    assert again.current() == job and again.current().state() == "running"
    assert job.process().nice() == 19
    again.stop()
    until(lambda: again.current().state() == "stopped")
    step = job.step()
    assert step in job.checkpoints() and step < 400
    (job.folder / "plan.json").write_text(json.dumps({**vars(job.plan), "steps": step + 2}))  # a shorter rest
    assert "--resume" in again.resume().command()
    until(lambda: again.current().state() == "done")
    until(lambda: again.column(job.output) == "trained-1")
    steps = [step for step, _ in job.losses()]
    assert again.current().step() == step + 2 and steps == sorted(set(steps))
    html = progress.draw_progress(again)
    assert 'data-column="trained-1"' in html and 'c=trained-1"' in html and "mine.jsonl" in html
    with pytest.raises(LensError, match="no training to go on"):
        again.resume()


def until(true, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
