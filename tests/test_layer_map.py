"""Where an answer comes from, by parts of the adapter and by layers: planted truths, and exactly what PEFT has."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import BASE as SHIPPED_BASE
from conftest import MOTTO, tiny_bloom
from peft import LoraConfig, get_peft_model

from compare.__main__ import main
from compare.analysis.layer_map import ROWS, TOKENS, Part, layer_map
from compare.engine.answers import compare
from compare.engine.interface import BASE, GivenAnswer, Question, Sampling, Variant
from compare.engine.local import LocalEngine
from compare.engine.question import read_layers
from compare.models.decoders import decoder_of
from compare.page.changed.answer_map import all_but
from lens.errors import BadAdapter, BadQuestion
from tests.decoders import tiny_decoder

LAYERS = 4
KINDS = {"attention": ("query_key_value", "dense"), "mlp": ("dense_h_to_4h", "dense_4h_to_h")}
EXACT = 2e-3  # nats, over a whole answer: rounding of float32


def adapter(path, only: str = "", seed: int = 1) -> str:
    """In every linear layer; B is zero but where `only` is in the layer's name."""
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=4, target_modules=[n for k in KINDS.values() for n in k],
                        init_lora_weights=False)
    model = get_peft_model(tiny_bloom(n_layer=LAYERS), config)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.15 if only in name or "lora_A" in name else 0.0)
    model.save_pretrained(path, save_embedding_layers=False)
    return str(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("map")


@pytest.fixture(scope="module")
def engine(home):
    base = home / "base"
    tiny_bloom(n_layer=LAYERS).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SHIPPED_BASE / name, base)
    with LocalEngine(str(base), [adapter(home / "planted", "h.2.mlp"), adapter(home / "whole")], "cpu") as made:
        yield made


def given(engine, name: str, answer: str = "规格严格，功夫到家", **changes) -> GivenAnswer:
    variant = replace(Variant.of(name), **changes)
    return GivenAnswer(engine.tokens.prompt_ids(MOTTO * 8), [*engine.tokens.encode(answer), 2], variant)


@torch.inference_mode()
def peft_hidden(home, name: str | None, ids, on=lambda name: True):
    """PEFT's own model: (hidden states after each layer, the last one normed, and logits), lora_B zero unless `on`."""
    from peft import PeftModel

    model = tiny_bloom(n_layer=LAYERS)
    if name:
        model = PeftModel.from_pretrained(copy.deepcopy(model), home / name)
        for key, weight in model.named_parameters():
            if "lora_B" in key and not on(key):
                weight.zero_()
    found = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    return [state[0] for state in found.hidden_states[1:]], found.logits[0].log_softmax(-1)


def likelihood(log, one: GivenAnswer) -> float:
    first = len(one.prompt_ids) - 1
    return sum(float(log[first + i, token]) for i, token in enumerate(one.answer_ids))


# ---- the map


def test_what_acts_in_one_place_alone_is_found_there(engine):
    found = engine.layer_map(given(engine, "planted"))
    whole = found.adapted - found.base
    assert abs(whole) > 0.5
    assert [(p.layer, p.kind) for p in found.parts] == [(n, k) for n in range(LAYERS) for k in ("attention", "mlp",
                                                                                                 None)]
    for part in found.parts:
        acts = (part.layer, part.kind) in ((2, "mlp"), (2, None))
        assert part.gained == pytest.approx(whole if acts else 0, abs=EXACT)  # by itself it is the whole adapter
        assert part.lost == pytest.approx(whole if acts else 0, abs=EXACT)  # without it there is only the base


def test_every_part_is_what_peft_has_with_the_other_modules_zeroed(engine, home):
    one = given(engine, "whole")
    found = engine.layer_map(one)
    ids = [*one.prompt_ids, *one.answer_ids]
    base = likelihood(peft_hidden(home, None, ids)[1], one)
    adapted = likelihood(peft_hidden(home, "whole", ids)[1], one)
    assert (found.base, found.adapted) == (pytest.approx(base, abs=EXACT), pytest.approx(adapted, abs=EXACT))
    for part in found.parts:
        modules = KINDS[part.kind] if part.kind else (*KINDS["attention"], *KINDS["mlp"])
        inside = lambda key: f".h.{part.layer}." in key and key.split(".lora_B")[0].rpartition(".")[2] in modules  # noqa: B023, E731
        alone = likelihood(peft_hidden(home, "whole", ids, inside)[1], one)
        without = likelihood(peft_hidden(home, "whole", ids, lambda key: not inside(key))[1], one)  # noqa: B023
        assert part.gained == pytest.approx(alone - base, abs=EXACT)
        assert part.lost == pytest.approx(adapted - without, abs=EXACT)
    assert len({round(part.gained, 2) for part in found.parts}) > LAYERS  # each is another figure
    json.dumps(found.as_dict(), allow_nan=False)
    assert "层" in found.as_dict()["sentence"]["zh"]
    kinds = [part for part in found.parts if part.kind]
    most, missed = (max(kinds, key=lambda part: abs(getattr(part, side))) for side in ("gained", "lost"))
    assert all(str(part.name) in str(found.sentence) for part in (most, missed))


def test_all_but_a_part_as_a_column_is_what_the_map_has_with_that_part_off(engine):
    """Where a column, some modules in some layers, can be that."""
    one = given(engine, "whole")
    found = engine.layer_map(one)
    rests = {(part.layer, part.kind): (part, all_but(part, found.parts)) for part in found.parts}
    assert [place for place, (_, rest) in rests.items() if rest] == [(n, None) for n in range(LAYERS)]
    assert rests[2, None][1] == {"layers": "0-1,3", "modules": ""}
    for part, rest in rests.values():
        if rest:
            asked = replace(one, variant=Variant.of("whole", layers=read_layers(rest["layers"])))
            assert engine.log_likelihoods([asked])[0] == pytest.approx(found.adapted - part.lost, abs=EXACT)


@pytest.mark.parametrize("places, rests", [
    ([(0, "attention"), (1, "mlp")], {(0, "attention"): ("1", ""), (0, None): ("1", ""), (1, "mlp"): ("0", ""),
                                      (1, None): ("0", "")}),
    ([(3, "attention"), (3, "mlp")], {(3, "attention"): ("", "mlp"), (3, "mlp"): ("", "attention")}),
    ([(0, "mlp"), (1, "mlp"), (1, "attention")], {(0, "mlp"): ("1", ""), (0, None): ("1", ""), (1, None): ("0", ""),
                                                  (1, "attention"): ("", "mlp")}),
    ([(2, "mlp")], {})], ids=str)
def test_all_but_a_part_is_a_column_where_layers_or_modules_alone_say_it(places, rests):
    parts = [Part(*place, 1.0, 1.0) for place in [*places, *dict.fromkeys((layer, None) for layer, _ in places)]]
    found = {(part.layer, part.kind): all_but(part, parts) for part in parts}
    assert {place: (rest["layers"], rest["modules"]) for place, rest in found.items() if rest} == rests


def test_of_a_part_of_an_adapter_only_that_part_is_mapped(engine):
    found = engine.layer_map(given(engine, "whole", layers=(1, 3), modules=("mlp",)))
    assert [(p.layer, p.kind) for p in found.parts] == [(1, "mlp"), (1, None), (3, "mlp"), (3, None)]
    whole = engine.layer_map(given(engine, "whole"))
    alone = {(p.layer, p.kind): p.gained for p in whole.parts}
    assert found.parts[2].gained == pytest.approx(alone[3, "mlp"], abs=EXACT) and found.adapted != whole.adapted


def test_few_rows_are_scored_at_once_and_none_twice():
    asked = []

    def likelihoods(rows):
        asked.append([one.variant for one in rows])
        return [float(sum(one.variant.is_on(*site) for site in sites)) if one.variant.adapter else 0.0 for one in rows]

    sites = [(layer, *module) for layer in range(24) for module in (("q_proj", "attention"), ("up_proj", "mlp"))]
    found = layer_map(likelihoods, GivenAnswer([1] * 20, [5] * 20, Variant.of("lens")), sites)
    assert max(map(len, asked)) == ROWS and sum(map(len, asked)) == 2 + 24 * 3 * 2
    assert (found.base, found.adapted) == (0, 48) and {(p.kind, p.gained, p.lost) for p in found.parts} == {
        ("attention", 1, 1), ("mlp", 1, 1), (None, 2, 2)}
    asked.clear()
    layer_map(likelihoods, GivenAnswer([1] * 20, [5] * TOKENS, Variant.of("lens")), sites[:2])
    assert [len(rows) for rows in asked] == [1] * 4  # base, all, and its two halves, each without the other
    with pytest.raises(BadAdapter):
        layer_map(lambda rows: [float("nan")] * len(rows), GivenAnswer([1], [5], Variant.of("lens")), sites)


# ---- layer by layer


def test_states_change_from_the_layer_on_that_acts(engine):
    found = engine.by_layer(given(engine, "planted"), [0])
    assert len(found.changes) == LAYERS
    assert max(max(layer) for layer in found.changes[:2]) < 1e-5
    assert min(min(layer) for layer in found.changes[2:]) > 1e-3
    assert found.largest([0, 1], found.prompt).ratio < 1e-5 < 1e-3 < found.largest([2], found.answer).ratio


@torch.inference_mode()
def test_every_layer_is_what_transformers_has(engine, home, monkeypatch):
    """In several chunks; the last layer is what each model really says."""
    one = given(engine, "whole")
    ids, positions = [*one.prompt_ids, *one.answer_ids], [0, 3, len(one.answer_ids) - 1]
    monkeypatch.setattr("compare.models.architecture.IDLE", 1)
    assert len(list(engine.loaded.decoder.chunks(2, len(ids)))) > 2
    found = engine.by_layer(one, positions)
    body = tiny_bloom(n_layer=LAYERS)
    (base, base_log), (adapted, adapted_log) = peft_hidden(home, None, ids), peft_hidden(home, "whole", ids)
    for layer in range(LAYERS - 1):  # transformers gives the last one normed
        right = (adapted[layer] - base[layer]).norm(dim=-1) / base[layer].norm(dim=-1)
        assert torch.tensor(found.changes[layer]) == pytest.approx(right, rel=1e-3, abs=1e-5)
    assert len(found.changes[-1]) == len(ids)
    for token in found.tokens:
        at = len(one.prompt_ids) - 1 + token.index
        for through, states, log in ((token.base, base, base_log), (token.adapted, adapted, adapted_log)):
            final = int(log[at].argmax())
            logs = [body.lm_head(body.transformer.ln_f(states[layer][at])).log_softmax(-1)
                    for layer in range(LAYERS - 1)]
            for after, right in zip(through.layers, [*logs, log[at]], strict=True):
                best = right.exp().topk(5)
                assert [c.probability for c in after.top] == pytest.approx(best.values.tolist(), abs=1e-4)
                assert after.top[0].token_id == int(best.indices[0])
                assert after.rank == 1 + int((right > right[final]).sum())
                assert after.probability == pytest.approx(float(right[final].exp()), abs=1e-4)
            assert through.choice.token_id == final
            leads = [int(right.argmax()) == final for right in [*logs, log[at]]]
            assert through.leads_from == next(n for n in range(LAYERS) if all(leads[n:]))
    json.dumps(found.as_dict(), allow_nan=False)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_layers_of_every_family_that_is_written_out_are_transformers_own(family):
    model = tiny_decoder(family)
    decoder, ids = decoder_of(model), torch.arange(5, 25)[None]
    right = model(input_ids=ids, output_hidden_states=True)
    seen: list[torch.Tensor] = []
    decoder.read_chunk(ids, None, decoder.new_cache(*ids.shape), 0, seen)
    assert len(seen) == 2 and torch.allclose(seen[0], right.hidden_states[1], atol=1e-4)
    assert torch.allclose(decoder.logits(decoder.norm_out(seen[-1])), right.logits, atol=1e-3)


def test_the_last_layer_is_what_score_says(engine):
    one = given(engine, "whole")
    scored = engine.score(one.prompt_ids, [one.answer_ids], BASE, one.variant)[0]
    found = engine.by_layer(one, range(len(scored)))
    for position, token in zip(scored, found.tokens, strict=True):
        assert (position.token_id, position.text) == (token.token_id, token.text)
        for view, through in ((position.base, token.base), (position.adapted, token.adapted)):
            assert [c.token_id for c in view.top] == [c.token_id for c in through.layers[-1].top]
            assert [c.probability for c in view.top] == pytest.approx(
                [c.probability for c in through.layers[-1].top], abs=1e-5)


def test_both_answers_go_on_beside_it(engine):
    *_, alone = compare(engine, Question(MOTTO), sampling=Sampling(8))
    running = compare(engine, Question(MOTTO), sampling=Sampling(8))
    next(running)
    engine.layer_map(given(engine, "whole"))
    engine.by_layer(given(engine, "whole"), [0])
    *_, columns = running
    assert [c.token_ids for c in columns] == [c.token_ids for c in alone]


@pytest.mark.parametrize("change, code", [
    ({"variant": BASE}, "nothing-to-look-at"), ({"answer_ids": []}, "nothing-to-look-at"),
    ({"prompt_ids": []}, "nothing-to-look-at"), ({"answer_ids": [5] * 2048}, "answer-over-window"),
    ({"answer_ids": [5, -1]}, "token-id-not-there"), ({"answer_ids": [8064]}, "token-id-not-there"),
    ({"variant": Variant.of("nobody")}, "adapter-not-loaded"),
    ({"variant": Variant.of("whole", layers=(9,))}, "layers-not-there")], ids=str)
def test_what_cannot_be_looked_into_is_said(engine, change, code):
    for look in (engine.layer_map, lambda one: engine.by_layer(one, [0])):
        with pytest.raises(BadQuestion) as caught:
            look(replace(given(engine, "whole"), **change))
        assert caught.value.code == code and caught.value.zh != str(caught.value)


@pytest.mark.parametrize("positions", [[-1], [99], list(range(9)) * 8], ids=["before", "after", "many"])
def test_positions_outside_of_the_answer_are_refused(engine, positions):
    with pytest.raises(BadQuestion, match="positions is"):
        engine.by_layer(given(engine, "whole"), positions)



# ---- the command line


def test_map_and_layers_on_the_command_line(engine, home, capsys):
    given = ["你好", "--base", str(home / "base"), "--adapter", str(home / "planted"), "--device", "cpu",
             "--max-new-tokens", "6", "--map", "--by-layer"]
    assert main([*given, "1", "--json"]) == 0
    base, adapted = json.loads(capsys.readouterr().out)["columns"]
    assert "map" not in base and "by_layer" not in base
    most = max(adapted["map"]["parts"], key=lambda part: abs(part["lost"]))
    assert (most["layer"], adapted["map"]["variant"]) == (2, "planted")
    assert [token["index"] for token in adapted["by_layer"]["tokens"]] == [1]
    assert main(given) == 0  # the first token that differs
    said = capsys.readouterr().out
    assert " ".join(said.split()).count("layer 2's feed-forward (mlp) matters most") == 1 and "+ attention" in said
    assert "leads from layer" in said and "states 0% apart" in said
    assert main([*given, "99"]) == 2
    assert "positions is [99]; allowed: at most 64 numbers from 0 to" in capsys.readouterr().err


def test_any_text_is_mapped_in_place_of_the_answer_on_the_command_line(engine, home, capsys):
    asked = ["你好", "--base", str(home / "base"), "--adapter", str(home / "planted"), "--device", "cpu",
             "--max-new-tokens", "2", "--text", "规格严格"]
    assert main([*asked, "--map", "--by-layer", "0", "--json"]) == 0
    base, adapted = json.loads(capsys.readouterr().out)["columns"]
    ids = engine.tokens.encode("规格严格")
    right = GivenAnswer(engine.tokens.prompt_ids("你好"), ids, Variant.of("planted"))
    assert adapted["map"] == {"answer": "规格严格", **engine.layer_map(right).as_dict()} and "map" not in base
    assert (adapted["by_layer"]["answer"], adapted["by_layer"]["tokens"][0]["token_id"]) == ("规格严格", ids[0])
    assert main([*asked, "--map"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "map and layers of the text '规格严格':" in said and f"its {len(ids)} tokens together" in said
    assert main([*asked[:-1], "", "--map"]) == 2 and "nothing to look into" in capsys.readouterr().err
    assert main(asked) == 2  # before a model is loaded
    assert capsys.readouterr().err == ("error: --text is '规格严格', but nothing looks into it; add --map or "
                                       "--by-layer, or leave it out\n")
