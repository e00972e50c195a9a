"""The list of columns without a browser: read, checked, under unique names, to and from an address, old links too."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_tab import StandInEngine, loaded

from compare.engine.interface import BASE, RANGES, Variant
from compare.page.compare.answering import Answering
from compare.page.compare.controls import Controls, as_json, columns_in
from compare.page.shared.column_list import AskedColumn, columns_asked, from_link, link_of, shown_columns
from compare.page.shared.request import LENGTHS, LONGEST_LINK, ComparisonRequest
from lens.errors import LensError

ODD = ("a;b~c%3B*", "半 <b>", "l:3", "0.5", "plain", "&q=1")
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).map(str.strip)
strengths = st.integers(-1000, 1000).map(lambda n: n / 100)
columns = st.builds(AskedColumn, st.none() | texts.filter(bool), strengths, st.sampled_from(["chat", "plain"]), texts,
                    texts, texts)
FIVE = (AskedColumn("two", 0.5, name="Half 半"), AskedColumn("one", layers="0,3-5", modules="attention"), AskedColumn(),
        AskedColumn(prompt="plain"), AskedColumn("one", -0.5, "plain", "1"))


def engine_of(*names: str) -> StandInEngine:
    return StandInEngine(*map(loaded, names))


def followed(link: str, shown=()) -> ComparisonRequest:
    return ComparisonRequest.from_link(dict(parse_qsl(link[1:], keep_blank_values=True)), shown)


@pytest.mark.parametrize("listed", [(), FIVE, tuple(AskedColumn(name, name=name) for name in ODD),
                                    tuple(AskedColumn(layers=text, modules=text) for text in ODD)])
def test_a_link_brings_back_what_was_asked(listed):
    asked = ComparisonRequest("校训 & <b>?", "", False, listed, 64, 0.7, 0.9, 12)
    assert followed(asked.link()) == asked
    assert followed(ComparisonRequest("校训", columns=listed).link()) == ComparisonRequest("校训", columns=listed)


@given(st.lists(columns, max_size=5))
def test_any_list_comes_back_from_an_address_and_from_the_page(listed):
    kept = [replace(c, strength=1.0) if c.adapter is None else c for c in listed]
    assert list(from_link(link_of(kept))) == kept
    assert columns_in(as_json(kept)) == kept


def test_a_link_holds_what_differs_from_a_fresh_page_and_is_none_where_it_is_too_long():
    assert ComparisonRequest("a").link() == "?q=a"
    assert ComparisonRequest("a", columns=FIVE[:1]).link() == "?q=a&c=two~0.5~n:Half+%E5%8D%8A"
    assert ComparisonRequest("长" * LONGEST_LINK).link() is None
    assert followed("?" + ComparisonRequest("长" * LONGEST_LINK).query()).question == "长" * LONGEST_LINK
    assert ComparisonRequest.from_link({}) is None and ComparisonRequest.from_link({"lang": "en"}) is None
    assert ComparisonRequest.from_link({"q": "  ", "seed": "3"}).seed == 3  # set, though nothing is asked yet


@given(st.dictionaries(st.sampled_from(["i", "on", "n", "t", "p", "seed", "s", "a", "c"]), st.text(max_size=30)))
def test_no_link_leads_out_of_bounds(params):
    asked = ComparisonRequest.from_link({"q": "x", **params}, (AskedColumn("lens"),))
    assert LENGTHS[0] <= asked.max_new_tokens <= LENGTHS[1] and asked.sampling.seed >= 0
    allowed = RANGES["strength"]
    assert all(allowed.low <= column.strength <= allowed.high for column in asked.columns or ())


@pytest.mark.parametrize("link, shows", [
    ("?q=x", ["base", "one", "two"]),
    ("?q=x&on=0", ["base", "one@0", "two@0"]),
    ("?q=x&s=0.5,2", ["base", "one", "two", "one@0.5", "one@2"]),
    ("?q=x&on=0&s=0.5&a=plain", ["base", "one@0", "two@0", "one@0.5", "base, plain prompt"]),
    ("?q=x&a=two%401.5,plain", ["base", "one", "two", "two@1.5", "base, plain prompt"]),
    ("?q=x&c=two;one~0.5", ["base", "two", "one@0.5"]), ("?q=x&c=", ["base"])])
def test_links_made_before_the_list_show_what_they_showed(link, shows):
    engine = engine_of("one", "two")
    asked = followed(link, shown_columns(engine))
    assert [v.name for v in asked.variants(engine)] == shows
    assert [v.name for v in followed(f"?{asked.query()}").variants(engine)] == shows


def test_an_adapter_that_was_given_twice_has_two_columns():
    engine = engine_of("one")
    engine.variants = lambda strengths: [BASE, *(Variant.of("one", s) for s in (*strengths, *strengths))]
    assert [v.name for v in ComparisonRequest("x").variants(engine)] == ["base", "one", "one (2)"]


def test_the_switch_turns_every_adapter_off():
    engine = engine_of("one", "two")
    found = ComparisonRequest("x", on=False, columns=FIVE).variants(engine)
    assert {v.strength for v in found} == {0} and [v.adapter for v in found] == [None, "two", "one", None, None, "one"]


def test_a_column_is_called_what_its_visitor_calls_it_and_no_two_alike():
    engine = engine_of("one", "two")
    same = [AskedColumn("one", name="A"), AskedColumn("two", name="A"), AskedColumn(name="base"), AskedColumn("one")]
    found = ComparisonRequest("x", columns=tuple(same)).variants(engine)
    assert [v.name for v in found] == ["base", "A", "A (2)", "base (2)", "one"]
    assert [v.title for v in found] == ["", "A", "A", "base", ""]


def test_the_page_gives_back_what_it_was_given_and_a_fresh_one_has_no_list():
    engine = engine_of("one", "two")
    for asked in (ComparisonRequest(), ComparisonRequest("x", columns=FIVE, seed=4), ComparisonRequest(columns=())):
        assert Controls.read(engine, *Controls.values(engine, asked)) == asked
    assert ComparisonRequest(columns=shown_columns(engine)).variants(engine) == ComparisonRequest().variants(engine)


def test_a_program_asks_for_parts_and_names():
    asked = [{"adapter": "one", "strength": 0.5, "layers": "3-5,0", "modules": "attention", "name": "part"},
             {"adapter": "one", "layers": "3"}, {"adapter": None}]
    *_, last = Answering(engine_of("one"), {}).compare("问", columns=asked)
    part, third, base = last["columns"]
    assert (part["variant"], part["layers"], part["modules"]) == ("part", "0,3-5", "attention")
    assert (third["variant"], third["layers"]) == ("one [layers 3]", "3") and "modules" not in third
    assert "layers" not in base


@pytest.mark.parametrize("bad, code", [
    ({"adapter": "one", "layers": "x"}, "layers-unreadable"), ({"adapter": "one", "modules": "x!"}, "modules-unknown"),
    ({"adapter": "one", "layers": 3}, "text-expected"), ({"layers": "3"}, "column-part-of-base"),
    ({"modules": "mlp"}, "column-part-of-base"), ({"name": "x" * 81}, "column-name-long"),
    ({"name": ["x"]}, "text-expected"), ({"adapter": "one", "strength": None}, "number-out-of-range"),
    ({"adapter": "gone"}, "adapter-not-loaded"), ({"form": "chat"}, "column-key-unknown")])
def test_what_no_column_can_be_is_refused_by_a_code(bad, code):
    with pytest.raises(LensError) as told:
        columns_asked(engine_of("one"), [bad])
    assert told.value.code == code and told.value.zh != str(told.value)


def test_a_list_that_a_page_sends_wrong_is_told_in_its_result():
    engine = engine_of("one")
    values = Controls.values(engine, ComparisonRequest("x"))
    values[3] = json.dumps([{"adapter": "one", "strength": 99}])
    [told] = Answering(engine, {}).page(lambda: Controls.read(engine, *values), None)
    assert "lens-error" in told and "99" in told


def test_thirteen_columns_are_all_drawn():
    engine = engine_of("one")
    asked = ComparisonRequest("x", columns=tuple(AskedColumn("one", n / 10) for n in range(12)))
    *_, drawn = Answering(engine, {}).page(lambda: asked, None)
    assert drawn.count("<article") == 13 and 'data-count="13"' in drawn
