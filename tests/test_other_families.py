"""The page on a base that is no BLOOM: what it draws, counts and offers is the base's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from one_tab import FACTS, StandInEngine, loaded

from compare.engine.interface import Shape as Sizes
from compare.engine.local import LocalEngine
from compare.page.compare.controls import column_fold
from compare.page.howto import tab as howto
from compare.page.howto.lora_drawing import draw_explorer
from compare.page.shared.model_sizes import SIZES, Shape
from compare.page.training.panel import controls, values_of
from compare.server.trainings import memory
from compare.server.trainings.declared import OFFERED
from lens.base.linear_layers import describe
from tests.decoders import CHAT, decoder_base, tiny_decoder

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def facts_of(family: str):
    model = tiny_decoder(family)
    c = model.config
    return replace(FACTS, base_name=f"tiny-{family}", parameters=model.num_parameters(), linears=describe(model).sizes,
                   family=family, shape=Sizes(c.vocab_size, c.hidden_size, c.num_hidden_layers, c.num_attention_heads))


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "gpt2"])
def facts(request):
    return facts_of(request.param)


def test_lora_equals_what_peft_adds(facts):
    from peft import LoraConfig, get_peft_model

    shape = Shape.of(facts)
    for names in (shape.usual, tuple(facts.linears)):
        model = get_peft_model(tiny_decoder(facts.base_name[5:]), LoraConfig(r=4, target_modules=list(names)))
        trainable, everything = model.get_nb_trainable_parameters()
        assert shape.lora(4, names) == trainable and shape.parameters + trainable == everything


def test_the_picture_is_of_one_of_its_layers_in_its_own_sizes():
    shape = Shape.of(facts_of("llama"))
    html = draw_explorer(shape, shape.parameters, 4, ["down_proj", "k_proj"])
    assert "query_key_value" not in html and "<code>k_proj</code>" in html and "16×32" in html
    assert 'data-in="32" data-out="16"' in html and "not to scale" in html
    assert html.count('name="module"') == 7 and html.count("checked>") == 3  # two layers and the step
    assert f">{shape.lora(4, ['down_proj', 'k_proj']):,}<" in html


def test_blooms_picture_is_to_scale():
    shape = Shape.of(FACTS)
    assert shape.is_bloom and shape.usual == ("query_key_value",)
    html = draw_explorer(shape, shape.parameters, 8, ["query_key_value"])
    assert "not to scale" not in html and 'height="228"' in html and "768×256" in html


def test_the_table_of_sizes_counts_the_loaded_one_as_it_is():
    shape = Shape.of(facts_of("llama"))
    table = howto.draw_sizes(shape)
    row = next(part for part in table.split("<tr") if "<code>tiny-llama" in part)
    assert f"{shape.parameters:,}" in row and f"{shape.lora():,}" in row and "class=here" in table
    assert "q_proj, k_proj, v_proj, o_proj" in table and all(s.name in table for s in SIZES)
    assert "q_proj" not in howto.draw_sizes(Shape.of(FACTS))
    assert howto.rank_and_modules(None, shape) == (8, LLAMA[:4])


def test_columns_and_trainings_offer_its_layers():
    engine = StandInEngine(loaded("mine"))
    engine.facts = facts_of("llama")
    assert all(name in column_fold(engine).html_template for name in [*LLAMA, "attention", "mlp"])
    assert "query_key_value" not in column_fold(engine).html_template
    panel = dict(zip(OFFERED, controls("lens", [], LLAMA), strict=True))
    assert [value for value, _ in panel["target_modules"].choices] == LLAMA
    assert panel["target_modules"].value == [] and values_of("lens", LLAMA)[OFFERED.index("target_modules")] == []
    assert values_of("lens")[OFFERED.index("target_modules")] == ["query_key_value"]


def test_memory_is_counted_by_what_goes_through_its_layers(facts):
    wider = {name: replace(kind, widths=2 * kind.widths) for name, kind in facts.linears.items()}
    more = memory.of_training(replace(facts, linears=wider)) - memory.of_training(facts)
    assert more == 4 * 2048 * sum(kind.widths for kind in facts.linears.values()) > 0


@pytest.mark.parametrize("template", [CHAT, ""])
def test_an_engine_tells_the_layers_and_whether_the_template_is_the_bases_own(tmp_path, template):
    base = decoder_base(tmp_path / "base", "llama", template)
    with LocalEngine(str(base), device="cpu") as engine:
        assert engine.facts.own_template == bool(template) and list(engine.facts.linears) == LLAMA
