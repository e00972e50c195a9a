"""Short forms of `python -m bench.trust`: texts, files, access, load, crashes."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from conftest import ADAPTER, BASE

from bench.shared.file_watch import Watch
from bench.shared.hit_qa import held_out
from bench.trust import access, crashes, drawing, files, text, threads, voting
from bench.trust.found import Found
from bench.trust.server import Page
from compare.engine.kv_cache import KEPT
from compare.page.shared import templates
from compare.questions import read_questions
from lens.adapter import prompts as foreign
from lens.adapter.directory import check_base, read_adapter
from lens.errors import BadAdapter, BadQuestion
from tests.hostile import DATA, texts
from tests.hostile_adapters import ADAPTERS, place
from tests.short import Engine

CHILD = [name for name, hostile in ADAPTERS.items() if "chat template or tokenizer" in hostile.said]  # seconds each


def no_faults(found: Found) -> None:
    assert not found.faults, "\n".join(found.faults)


# ---- text


def test_no_text_becomes_structure_or_markup():
    found = Found()
    text.check_structure(460, found)
    text.check_drawing(115, found)
    no_faults(found)


@pytest.mark.parametrize("escaping", [True, False])
def test_no_text_runs_or_becomes_an_element_in_the_browser(browser, engine, monkeypatch, escaping):
    """And where answers are not escaped, it is seen."""
    found = Found()
    if not escaping:
        unsafe = templates.environment().overlay(autoescape=False)
        monkeypatch.setattr(templates, "template", lambda name: unsafe.get_template(f"{name}.html.jinja").module)
    drawing.look(browser, engine, 10, found)  # the tenth is HTML
    assert bool(found.faults) != escaping, "\n".join(found.faults)


def test_a_text_of_a_megabyte_is_refused_before_it_is_encoded(engine):
    with pytest.raises(BadQuestion, match="1,000,000 characters.*at most 100,000"):
        engine.prompt.encode("a" * 1_000_000)


def test_questions_of_a_file_are_whole_and_can_be_printed(tmp_path):
    """Lone surrogates, which stdout cannot carry, are replaced; U+2028 and its like end no line."""
    some = (t[:80_000] for _, t in texts(230) if t.strip())  # escaped, a line may have 1,000,000 characters
    wanted = [json.loads(json.dumps(t)) for t in some]  # JSON joins halves that fit together
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps({"input": t}, ensure_ascii=True) for t in wanted))
    found = [q.text for q in read_questions(tmp_path / "q.jsonl")]
    assert found == [t.encode("utf-8", "replace").decode("utf-8") for t in wanted]
    (tmp_path / "q.jsonl").write_text('{"input": "一\u2028二\x85三"}', encoding="utf-8")
    assert [q.text for q in read_questions(tmp_path / "q.jsonl")] == ["一\u2028二\x85三"]


def test_a_questions_file_without_end_is_refused():
    with pytest.raises(BadQuestion, match="/dev/zero has more than"):
        read_questions(Path("/dev/zero"))


# ---- files


@pytest.fixture(scope="module")
def base() -> files.Base:
    return files.Base()


def test_hostile_adapters_are_refused_and_the_base_stays(base, tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY", str(tmp_path / "owned"))
    found = Found()
    with Watch(tmp_path) as watch:
        files.check_adapters([name for name in ADAPTERS if name not in CHILD], base, tmp_path, found)
    no_faults(found)
    assert not watch.seen and not (tmp_path / "owned").exists()


def test_hostile_data_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY", str(tmp_path / "owned"))
    found = Found()
    files.check_data(list(DATA), tmp_path, found)
    no_faults(found)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["a foreign template", "a foreign tokenizer", "a template that breaks out"])
def test_what_an_adapter_brings_is_compared(tmp_path, name):
    """In this process; the next test does it as an engine does."""
    path = place(tmp_path / "brings")
    ADAPTERS[name].spoil(path)
    try:
        assert "tokens" in foreign.first_difference(str(BASE), path)
    except Exception as err:  # noqa: BLE001 (a template of another's making: whatever it raises ends the child)
        assert name == "a template that breaks out", err


def test_a_foreign_template_is_refused_and_another_spelling_is_told(tmp_path, monkeypatch):
    path = place(tmp_path / "brings")
    template = (BASE / "chat_template.jinja").read_text(encoding="utf-8")
    (path / "chat_template.jinja").write_text("{# the same #}" + template, encoding="utf-8")
    with monkeypatch.context() as here:
        here.setattr(foreign, "difference", foreign.first_difference)  # without a child, to save seconds
        (note,) = check_base(str(BASE), [read_adapter(path)])
        assert "brings chat_template.jinja of its own; they give the base's prompts" in str(note)
    (path / "chat_template.jinja").write_text(template.replace("系统", "系統"), encoding="utf-8")
    with pytest.raises(BadAdapter, match="another chat template or tokenizer .*'哈尔滨工业大学的校训是什么？' is .*"
                                         r"differ first in line \d+: .*系統.*, the base's .*系统"):
        check_base(str(BASE), [read_adapter(path)])


def test_what_trains_own_tokenizer_wrote_needs_no_second_look(monkeypatch):
    monkeypatch.setattr(foreign, "difference", lambda *_: pytest.fail("read in a child process"))
    assert check_base(str(BASE), [read_adapter(ADAPTER)]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHILD)
def test_what_an_adapter_brings_cannot_hold_us_up(base, tmp_path, name):
    told = files.meet_adapter(base, tmp_path / "adapter", ADAPTERS[name])
    assert files.problem(told, ADAPTERS[name].said) is None
    assert told.wall < foreign.PATIENCE


def test_a_name_that_no_file_system_takes_is_refused():
    with pytest.raises(BadAdapter, match="no directory can be called that"):
        Engine(str(BASE), "a" * 5000, device="cpu")


# ---- access and text, on a running page


class WarmPage(Page):
    """The page in a process that is no child of the one that was started (warm_python.py)."""

    def listening(self) -> set[str]:
        every = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        pages = {c.pid for c in every if c.laddr.port == self.port}
        return {c.laddr.ip for c in every if c.pid in pages}


@pytest.fixture(scope="module")
def page():
    with WarmPage() as page:
        yield page


@pytest.mark.parametrize("check", access.CHECKS, ids=lambda c: c.__name__)
def test_only_what_should_be_reachable_is(page, check):
    found = Found()
    check(page, found)
    no_faults(found)


def test_the_page_answers_whatever_it_is_asked(page):
    found = Found()
    text.put(page, [(kind, t) for kind, t in texts(46, seed=2) if text.encodable(t)], found)
    no_faults(found)


def test_the_page_answers_a_question_with_half_a_character(page):
    assert text.through_wire(page.port, text.endpoint(page.port), "校训？\ud83d") == "answered"


# ---- load and crashes


@pytest.mark.slow  # in `make test`: test_engine.py::test_many_threads_at_once
def test_a_crowd_leaves_nothing_behind(engine):
    tally, before, after = threads.crowd(engine, held_out(6), clients=6, seconds=5)
    assert not tally.wrong and not tally.failed and tally.ends["finished"] > 5 and tally.ends["vanished"] > 5
    assert not engine.batch.rows and not engine.waiting
    assert engine.batch.kv_cache.cache.keys.nbytes <= KEPT  # the room of the fullest batch is given back
    assert after.threads <= before.threads and after.files <= before.files and after.rss < 1.05 * before.rss


@pytest.mark.slow  # in `make test`: test_checkpoint.py::test_ctrl_c_and_kill_as_people_do_it
@pytest.mark.usefixtures("cold")
def test_a_killed_training_goes_on(tmp_path):
    found = Found()
    crashes.kill_training(1, tmp_path, found)
    no_faults(found)


@pytest.mark.slow
@pytest.mark.usefixtures("cold")
def test_a_training_killed_while_it_writes_a_checkpoint_goes_on(tmp_path):
    found = Found()
    crashes.kill_checkpointing(1, tmp_path, found)
    no_faults(found)


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_votes_acknowledged_before_a_kill_are_there_after_it(tmp_path, kills):
    found = Found()
    voting.kill_voting(kills, tmp_path, found)
    no_faults(found)
    assert found.figures["votes acknowledged and kept"] > 3
