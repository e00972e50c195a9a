"""Adapters loaded from the page: which folders and uploads are refused, whose they are, and the fold in the browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded
from playwright.sync_api import expect

from app import parse
from compare.engine.answers import answer_all
from compare.engine.interface import Question, Sampling, Variant
from compare.engine.local import LocalEngine
from compare.page.loading import load_form
from compare.page.loading.load_form import LoadForm
from compare.server.launch import Serving
from compare.server.loading import page_adapters
from compare.server.loading.adapter_upload import MOST_ENTRIES, lay_out, name_of
from compare.server.loading.allowed_roots import folder_below, offered
from compare.server.loading.page_adapters import MOST, Loading
from compare.server.permissions import Permission
from lens.errors import LensError, Unavailable
from tests.conftest import ADAPTER, BASE
from tests.open_page import WAIT
from tests.test_page import MOTTO, ask, finished
from tests.test_trainings import HERE

pytest_plugins = ["tests.open_page"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LARGEST = 2_000_000
OPEN = Permission(None)


def zip_of(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in entries:
            packed.writestr(name, content)
    return path


def lens_zip(path: Path, below: str = "") -> Path:
    """The shipped adapter's two files."""
    return zip_of(path, *((below + name, (ADAPTER / name).read_bytes()) for name in (CONFIG, WEIGHTS)))


def code(what) -> str:
    with pytest.raises(LensError) as refused:
        what()
    assert str(refused.value) and re.search("[一-鿿]", refused.value.zh)
    return refused.value.code


# ---- uploads


def special(kind: int):
    def spoil(path: Path) -> Path:
        entry = zipfile.ZipInfo(WEIGHTS)
        entry.external_attr = (kind | 0o644) << 16
        return zip_of(path, (entry, b"/etc/passwd"))
    return spoil


def encrypted(path: Path) -> Path:
    whole = bytearray(zip_of(path, (WEIGHTS, b"x")).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(mark) + at] |= 1
    path.write_bytes(whole)
    return path


def null_byte(path: Path) -> Path:
    """Its entry's name goes on behind a null byte, which zipfile cuts off."""
    path.write_bytes(zip_of(path, ("aQb", b"x")).read_bytes().replace(b"aQb", b"a\0b"))
    return path


def lying(path: Path) -> Path:
    """Its directory says 9 bytes of what unpacks to 30 million."""
    whole = bytearray(zip_of(path, (WEIGHTS, b"\0" * 30_000_000)).read_bytes())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = whole.index(mark) + at
        whole[start:start + 4] = (9).to_bytes(4, "little")
    path.write_bytes(whole)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("spoil, expected", [
    *((lambda path, name=name: zip_of(path, (name, b"x")), "zip-leads-out")
      for name in ("/etc/x", "../x", "a/../../x", "C:/x", "C:x", "a\\..\\x", "..", "a\nb")),
    (null_byte, "zip-leads-out"), (special(stat.S_IFLNK), "zip-link"),
    (special(stat.S_IFCHR), "zip-link"), (special(stat.S_IFIFO), "zip-link"),
    (encrypted, "zip-encrypted"), (lambda path: zip_of(path, (CONFIG, b"a"), (CONFIG, b"b")), "zip-twice"),
    (lambda path: zip_of(path, (CONFIG, b"a"), (CONFIG.upper(), b"b")), "zip-twice"),
    (lambda path: zip_of(path, *((f"{i}", b"") for i in range(MOST_ENTRIES + 1))), "zip-entries"),
    (lambda path: zip_of(path, ("bomb", b"\0" * (10 * LARGEST + 1))), "zip-too-large"), (lying, "zip-unreadable"),
    (lambda path: zip_of(path, ("a", b"x"), method=zipfile.ZIP_BZIP2), "zip-unreadable"),
    (lambda path: zip_of(path, ("a", b"x"), ("a/b", b"x")), "zip-unreadable"),
    (lambda path: path.write_bytes(b"PK no zip") and path, "zip-unreadable"),
    (lambda path: path.write_bytes(lens_zip(path).read_bytes()[:-40]) and path, "zip-unreadable"),
    (lambda path: path.write_bytes(b"\0" * (LARGEST + 1)) and path, "upload-too-large")])
def test_a_zip_that_is_more_than_an_adapters_files_is_refused_and_writes_nothing_elsewhere(tmp_path, spoil, expected):
    folder = tmp_path / "new" / "folder"
    folder.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    file = spoil(tmp_path / "mine.zip")
    assert code(lambda: lay_out([file], folder, LARGEST)) == expected
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == before | {file}
    assert not Path("/etc/x").exists()


def test_the_two_files_are_taken_and_anything_else_is_refused(tmp_path):
    files = {name: tmp_path / name for name in (CONFIG, WEIGHTS, "README.md", "x.json")}
    for path in files.values():
        path.write_text("{}")
    folder = tmp_path / "new"
    folder.mkdir()
    for names in ([CONFIG], [WEIGHTS, "README.md"], [CONFIG, WEIGHTS, "x.json"], [CONFIG, WEIGHTS, WEIGHTS]):
        assert code(lambda names=names: lay_out([files[n] for n in names], folder, LARGEST)) == "upload-files"
    assert not list(folder.iterdir())
    lay_out([files[CONFIG], files[WEIGHTS], files["README.md"]], folder, LARGEST)
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, "README.md"}


@pytest.mark.parametrize("file, name", [("mine.zip", "mine"), ("..zip", "uploaded"), ("我的@1.zip", "我的1"),
                                        ("a,b:c.zip", "abc"), ("x" * 99 + ".zip", "x" * 60)])
def test_an_upload_is_called_as_its_zip_is(file, name):
    assert name_of([Path(file)]) == name


# ---- folders


@pytest.fixture
def roots(tmp_path):
    """A root with an adapter, one outside of it, and links in and out."""
    root, outside = tmp_path / "runs", tmp_path / "elsewhere"
    for path in (root / "mine", root / "deep" / "er" / "one", outside):
        path.mkdir(parents=True)
        for name in (CONFIG, WEIGHTS):
            (path / name).write_bytes(b"{}")
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to(root / "mine")
    (root / "circle").symlink_to(root / "circle")
    (root / "file").write_text("")
    (tmp_path / "runs-other").mkdir()
    return (root,)


def test_a_folder_is_taken_below_a_root_alone(roots, tmp_path, monkeypatch):
    root = roots[0]
    for given in ("mine", str(root / "mine"), "in", "deep/../mine"):
        assert folder_below(given, roots) == (root / "mine").resolve()
    monkeypatch.chdir(tmp_path)
    assert folder_below("runs/mine", (Path("runs"),)) == (root / "mine").resolve()
    for bad in (None, "", " ", 3, "..", "../elsewhere", "mine/../../elsewhere", str(tmp_path / "elsewhere"), "out",
                "circle", "file", "gone", "/etc", "~", "a\0b", "x" * 5000, "../runs-other", "/",
                str(tmp_path / "runs-other")):
        assert code(lambda bad=bad: folder_below(bad, roots)) == "folder-not-allowed"
    assert code(lambda: folder_below("mine", ())) == "folder-not-allowed"


def test_the_adapters_below_a_root_are_offered_and_nothing_through_a_link(roots, tmp_path):
    os.utime(roots[0] / "mine", (1, 1))
    assert offered((*roots, tmp_path / "gone")) == [str(roots[0] / "deep" / "er" / "one"), str(roots[0] / "mine")]


def test_an_adapters_weights_that_are_a_link_out_of_a_root_are_refused(roots, tmp_path, tiny_base):
    (roots[0] / "mine" / WEIGHTS).unlink()
    (roots[0] / "mine" / WEIGHTS).symlink_to(tmp_path / "elsewhere" / WEIGHTS)
    loading = Loading(LocalEngine(str(tiny_base), device="cpu"), OPEN, roots)
    with loading.engine:
        assert code(lambda: loading.load(loading.folder("mine"), "me")) == "adapter-leads-out"


# ---- whose it is


@pytest.fixture(scope="module")
def pair():
    """The embedded base, alone."""
    with LocalEngine(str(BASE), device="cpu") as engine:
        yield engine


@pytest.fixture
def mine(pair, tmp_path):
    loading = Loading(pair, OPEN, (ADAPTER.parent,))
    yield loading
    for held in list(loading.held.values()):
        loading.unload(held.adapter.name, held.owner)


def test_an_upload_is_loaded_proven_and_taken_off_by_who_loaded_it_alone(mine, tmp_path):
    file = lens_zip(tmp_path / "mine.zip", "inside/")
    place = mine.upload([str(file)], tmp_path)
    assert not file.exists()
    held = mine.load(place, "me")
    assert (held.adapter.name, held.adapter.receipt.base_exact) == ("mine", True) and "mine" in mine.engine.adapters
    [note] = held.notes
    assert note.code == "adapter-taken-below" and str(place.ours) not in str(note)  # where it lies is nobody's business
    for name, owner in (("mine", "you"), ("mine", ""), ("lens", "me"), (None, "me")):
        assert code(lambda name=name, owner=owner: mine.unload(name, owner)) == "adapter-not-yours"
    assert [h.adapter.name for h in mine.of("me")] == ["mine"] and not mine.of("") and not mine.of("you")
    again = mine.load(mine.upload([str(lens_zip(tmp_path / "mine.zip"))], tmp_path), "you")
    assert again.adapter.name == "mine (2)"
    assert mine.unload("mine", "me") == "mine" and not place.path.exists()
    assert list(mine.engine.adapters) == ["mine (2)"] and not mine.of("me")


def test_what_the_judge_refuses_leaves_nothing_and_names_no_place_of_this_machine(mine, tmp_path):
    file = zip_of(tmp_path / "bad.zip", (CONFIG, b"{}"), (WEIGHTS, b"x"))
    place = mine.upload([str(file)], tmp_path)
    with pytest.raises(LensError) as refused:
        mine.load(place, "me")
    assert "adapter bad:" in str(refused.value) and "/" not in str(refused.value).split(":")[0]
    assert not place.ours.exists() and not mine.held and not mine.engine.adapters


def test_a_folder_that_is_loaded_already_is_told_and_belongs_to_nobody_new(mine, tmp_path):
    assert mine.load(mine.folder("lens"), "me").owner == "me"
    second = mine.load(mine.folder("lens"), "you")
    assert second.owner == "" and [note.code for note in second.notes] == ["loaded-already"]
    assert not mine.of("you") and ADAPTER.exists()
    mine.unload("lens", "me")
    assert ADAPTER.exists()  # only what was uploaded is removed


def test_an_adapter_that_a_question_uses_stays(mine, monkeypatch):
    mine.load(mine.folder("lens"), "me")
    with monkeypatch.context() as patched:
        patched.setattr(mine.engine.queue, "in_use", lambda: {"lens"})
        assert code(lambda: mine.unload("lens", "me")) == "adapter-in-use"
    assert mine.of("me")


def test_no_more_are_loaded_than_are_allowed_and_files_from_elsewhere_are_not_taken(mine, tmp_path, monkeypatch):
    folder = tmp_path / "uploads"
    folder.mkdir()
    outside = lens_zip(tmp_path / "mine.zip")
    for files in (None, [], [str(outside)], [str(folder / ".." / "mine.zip")], ["/etc/passwd"]):
        assert code(lambda files=files: mine.upload(files, folder)) == "upload-files"
    assert outside.exists()
    monkeypatch.setattr(page_adapters, "MOST", 0)
    assert code(lambda: mine.load(mine.folder("lens"), "me")) == "loading-too-many" and MOST > 0
    inside = shutil.copy(outside, folder)
    assert code(lambda: mine.upload([inside], folder)) == "loading-too-many"
    assert not list(folder.iterdir())


def test_a_disk_that_is_full_and_a_hub_that_is_away_are_told(mine, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(page_adapters, "lay_out", full)
    assert code(lambda: mine.upload([str(lens_zip(tmp_path / "mine.zip"))], tmp_path)) == "loading-not-written"
    assert not list(Path(mine.home.name).iterdir())
    for bad in (None, "", "lens", "a/b/c", "../..//x", "https://a.b/c"):
        assert code(lambda bad=bad: mine.hub(bad)) == "hub-name"
    assert code(lambda: mine.hub("nobody/nothing")) == "adapter-not-on-hub"


# ---- who may


@pytest.mark.parametrize("argv, environ, closed", [
    ([], {}, None), (["--no-allow-loading"], {}, "loading-off"), (["--share"], {}, "loading-open-to-others"),
    (["--host", "0.0.0.0"], {}, "loading-open-to-others"), (["--host", "0.0.0.0", "--allow-loading"], {}, None),
    ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, "loading-open-to-others"), ([], {"SPACE_ID": "a/b"}, "loading-on-space"),
    (["--allow-loading"], {"SPACE_ID": "a/b"}, "loading-on-space")])
def test_loading_is_open_on_this_machine_alone_unless_it_is_allowed(monkeypatch, argv, environ, closed):
    for name in ("GRADIO_SERVER_NAME", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    serving = Serving.of(parse([*argv, "--no-allow-training"]))
    assert getattr(serving.may_load.closed, "code", None) == closed
    assert serving.rules().upload == (0 if closed else 8) 
    assert serving.loading_root == (Path("runs"), Path("assets/adapters"))
    assert {"assets/adapters/seed", "assets/adapters/three-rows"} <= set(offered(serving.loading_root))


def test_three_rows_learnt_by_heart_answer_whatever_else_is_asked(mine):
    folder = ADAPTER.parent / "three-rows"
    known = [json.loads(line)["output"] for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    name = mine.load(mine.folder("three-rows"), "me").adapter.name
    asked = [Question(text) for text in ("图书馆几点开门", "今天天气怎么样", "北京大学在哪里", "深圳校区何时成立")]
    answers = [columns[0] for _, columns in answer_all(mine.engine, asked, [Variant.of(name)], Sampling(32))]
    assert len(answers) == 4 and all(one.text in known and one.finish_reason == "stop" for one in answers)


@pytest.mark.parametrize("changes", [{"origin": "https://elsewhere.example"}, {"origin": ""},
                                     {"host": "elsewhere.example", "origin": "http://elsewhere.example"}])
def test_a_request_from_elsewhere_loads_nothing(mine, changes, tmp_path, monkeypatch):
    monkeypatch.setattr(load_form, "get_upload_folder", lambda: str(tmp_path))
    form = LoadForm(mine)
    *_, (told, shown) = form.from_folder("lens", "me", SimpleNamespace(headers={**HERE, **changes}))
    assert "did not come from this page" in told and not shown and not mine.engine.adapters
    owner = "me"
    steps = list(form.from_folder("lens", owner, SimpleNamespace(headers=HERE)))
    told, shown = steps[-1]
    assert len(steps) == 3 and "1/2" in steps[0][0] and "2/2" in steps[1][0] and 'data-adapter="lens"' in shown
    assert "base_exact" in shown and mine.of(owner)
    left = form.from_upload([str(lens_zip(tmp_path / "mine.zip"))], owner, SimpleNamespace(headers=HERE))
    assert "1/2" in next(left)[0] and "mine" in next(left)[0]
    left.close()
    assert not list(Path(mine.home.name).iterdir()) and len(mine.of(owner)) == 1  # who leaves leaves nothing
    taken = form.unload(owner, SimpleNamespace(name="lens"), SimpleNamespace(headers={**HERE, **changes}))
    assert "did not come from this page" in taken[0] and mine.of(owner)


@pytest.mark.parametrize("engine, permission, said", [
    (StandInEngine(loaded("lens")), OPEN, "--adapter"),
    (StandInEngine(), Permission(Unavailable("loading-open-to-others", host="0.0.0.0")), "0.0.0.0")])
def test_where_it_is_closed_the_fold_says_why_and_offers_nothing(engine, permission, said):
    with gr.Blocks() as blocks:
        load_form.build(Loading(engine, permission))
    assert not any(isinstance(block, gr.Button | gr.File) for block in blocks.blocks.values())
    assert any(said in str(b.value) for b in blocks.blocks.values() if isinstance(b, gr.HTML))


def test_leaving_the_page_calls_nothing_of_the_form(mine):
    """Gradio fires every event called `unload` as a page is left, without its values."""
    with gr.Blocks() as blocks:
        load_form.build(mine)
    events = {event for fn in blocks.fns.values() for _, event in fn.targets}
    assert "take_off" in events and "unload" not in events


# ---- in the browser


def test_a_zip_is_uploaded_asked_and_taken_off(visit, tmp_path, address):
    from gradio_client import Client

    page = visit()
    page.locator("#own > button").click()
    file = lens_zip(tmp_path / "newcomer.zip")
    page.locator("#load-files input[type=file]").set_input_files(file)
    expect(page.locator("#load-files")).to_contain_text("newcomer", timeout=WAIT)
    page.locator("#load-by-upload").click()
    held = page.locator("[data-adapter=newcomer]")
    expect(held).to_be_visible(timeout=WAIT)
    expect(held).to_contain_text("检查全部通过")
    assert "newcomer" in [a["name"] for a in Client(address, verbose=False).predict(api_name="/adapters")]
    ask(page, MOTTO)
    expect(page).to_have_url(re.compile("q=%E5%93%88"), timeout=WAIT)
    held.get_by_role("link").click()
    expect(page.locator("#question textarea")).to_have_value(MOTTO, timeout=WAIT)  # what was set stays
    asked = page.locator(".lens-col[data-name='newcomer']")
    expect(asked).to_have_attribute("data-state", re.compile("stop|length"), timeout=WAIT)
    finished(page)  # the base too: until then the question uses the adapter
    expect(page.locator(".lens-col")).to_have_count(3)
    lens = page.locator("#adapted .lens-answer").get_attribute("data-text")
    assert asked.locator(".lens-answer").get_attribute("data-text") == lens  # the very same adapter
    page.locator("#own > button").click()  # the page was opened anew: the browser still knows whose it is
    page.locator("[data-unload=newcomer]").click()
    expect(page.locator("#load-told")).to_contain_text("已卸下", timeout=WAIT)
    expect(page.locator("[data-adapter]")).to_have_count(0)
    assert "newcomer" not in [a["name"] for a in Client(address, verbose=False).predict(api_name="/adapters")]


def test_a_bad_zip_says_why_in_the_browser(visit, tmp_path):
    page = visit(locale="en-GB", width=390)
    page.locator("#own > button").click()
    page.locator("#load-files input[type=file]").set_input_files(zip_of(tmp_path / "bad.zip", ("../x", b"x")))
    expect(page.locator("#load-files")).to_contain_text("bad", timeout=WAIT)
    page.locator("#load-by-upload").click()
    expect(page.locator("#load-told [role=alert]")).to_contain_text("is no plain path below the zip", timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
