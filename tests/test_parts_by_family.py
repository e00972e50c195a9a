"""A part of an adapter on every family, as people ask for it: in the terminal, for programs, in an address; each is
what PEFT has with the other modules' lora_B zeroed. And what a base that transformers itself runs cannot do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import torch

from bench.shared.by_transformers import adapted, generated, plain
from compare.__main__ import main
from compare.engine.interface import GivenAnswer, Variant
from compare.engine.local import LocalEngine
from compare.page.changed.look_inside import InsideAnswers, Looked
from compare.page.compare.answering import Answering
from compare.page.shared.column_list import AskedColumn, columns_asked
from compare.page.shared.request import ComparisonRequest
from tests.decoders import decoder_base, tiny_decoder

LAYERS, TOKENS, NEAR, EXACT = 3, 10, 1e-4, 2e-3
# Family → what its config says of so many layers, and a linear layer's name; only the last is run by transformers.
FAMILIES = {
    "bloom": ({}, "dense_h_to_4h"), "llama": ({}, "q_proj"), "mistral": ({}, "v_proj"), "qwen2": ({}, "up_proj"),
    "qwen3": ({}, "o_proj"), "gemma3_text": ({"layer_types": ["sliding_attention", "full_attention",
                                                              "sliding_attention"],
                                              "tie_word_embeddings": False}, "down_proj"),  # tied it repeats itself
    "gemma": ({"tie_word_embeddings": False}, "gate_proj"),
    "gemma2": ({"sliding_window": 16, "tie_word_embeddings": False}, "k_proj"),
    "gpt2": ({"n_layer": LAYERS}, "mlp.c_proj")}
GENERAL = "gpt2"


@dataclass(frozen=True)
class Pair:
    """A random base of a family and an adapter on all of its linear layers, in directories and loaded."""

    family: str
    home: Path
    engine: LocalEngine

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Layers and modules as they are written."""
        return [("1-2", ""), ("", "attention"), ("", "mlp"), ("0,2", FAMILIES[self.family][1])]

    @property
    def options(self) -> list[str]:
        return ["hello", "--base", str(self.home / "base"), "--adapter", str(self.home / "one"), "--device", "cpu",
                "--max-new-tokens", str(TOKENS)]

    def by_peft(self, inside):
        """PEFT's own model, lora_B zero in every linear layer whose number and name are not `inside`."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.home / "base"), self.home / "one")
        for name, weight in model.named_parameters():
            if "lora_B" in name and not inside(int(re.findall(r"\.(\d+)\.", name)[0]), name.partition(".lora_B")[0]):
                torch.nn.init.zeros_(weight)
        return model.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    from peft import LoraConfig, get_peft_model

    home, changes = tmp_path_factory.mktemp("family"), {"num_hidden_layers": LAYERS, **FAMILIES[request.param][0]}
    decoder_base(home / "base", request.param, **changes)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(tiny_decoder(request.param, **changes), config)
    torch.manual_seed(3)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(home / "one", save_embedding_layers=False)
    with LocalEngine(str(home / "base"), [str(home / "one")], "cpu") as engine:
        assert engine.facts.shape.n_layer == LAYERS and (request.param != GENERAL) == ("by-layer" in engine.abilities)
        yield Pair(request.param, home, engine)


def inside(layers: str, modules: str):
    """Is a linear layer in a part? By its number and whole name alone."""
    numbers = {"": (0, 1, 2), "1-2": (1, 2), "0,2": (0, 2)}[layers]
    is_attention = lambda name: "attn" in name or "attention" in name  # noqa: E731
    return lambda number, name: number in numbers and {
        "": True, "attention": is_attention(name), "mlp": not is_attention(name)}.get(modules, name.endswith(modules))


def answered(pair: Pair, columns: list[dict]) -> list[dict]:
    """For a program."""
    *_, last = Answering(pair.engine, {}).compare("hello", columns=columns, max_new_tokens=TOKENS)
    return last["columns"]


@torch.inference_mode()
def test_programs_get_what_peft_has_with_the_others_zeroed(pair):
    prompt = pair.engine.tokens.prompt_ids("hello")
    found = answered(pair, [{"adapter": "one", "layers": layers, "modules": modules}
                            for layers, modules in pair.parts] + [{"adapter": None}, {"adapter": "one"}])
    whole_and_base = [lambda number, name: False, lambda number, name: True]
    for column, on in zip(found, [*(inside(*part) for part in pair.parts), *whole_and_base], strict=True):
        ids = [*column["token_ids"], *([2] if column["finish_reason"] == "stop" else [])]
        logits = pair.by_peft(on)(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1:]
        for token, row in zip(ids, logits, strict=False):
            assert row[token] >= row.max() - NEAR, column["variant"]  # the same but for a tie of rounding
    assert len({tuple(column["token_ids"]) for column in found}) >= 4  # parts are another thing each


def test_the_terminal_tells_what_transformers_and_peft_alone_say(pair, capsys):
    """Both answers id by id, after a prompt that the base's own tokenizer made."""
    from transformers import AutoTokenizer

    assert main([*pair.options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    base, adapter = pair.home / "base", pair.home / "one"
    prompt = AutoTokenizer.from_pretrained(base).apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=False)
    right = [generated(model, prompt, TOKENS) for model in (plain(base), adapted(base, adapter))]
    assert told["prompt_ids"] == prompt and [column["variant"] for column in told["columns"]] == ["base", "one"]
    assert [column["token_ids"] for column in told["columns"]] == right and right[0] != right[1]


def test_the_terminal_and_an_address_ask_for_the_same(pair, capsys):
    layers, modules = pair.parts[-1]
    asked = [{"adapter": "one", "layers": layers, "modules": modules} for layers, modules in pair.parts]
    link = ComparisonRequest("hello", "", columns=tuple(map(AskedColumn.read, asked))).link()
    back = ComparisonRequest.from_link(dict(parse_qsl(link[1:])))
    assert back.variants(pair.engine)[1:] == columns_asked(pair.engine, asked)
    assert main([*pair.options, "--layers", layers, "--modules", modules, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["columns"][1]
    right = answered(pair, asked)[-1]
    assert [told[key] for key in ("variant", "layers", "modules", "token_ids")] == [
        right[key] for key in ("variant", "layers", "modules", "token_ids")]


@pytest.mark.parametrize("layers, modules, code", [("9", "", "layers-not-there"), ("", "nosuch", "modules-unknown")])
def test_what_there_is_not_is_answered_by_what_there_is(pair, capsys, layers, modules, code):
    """One sentence, the same in the terminal, for a program and on the page."""
    column = {"adapter": "one", "layers": layers, "modules": modules}
    *_, last = Answering(pair.engine, {}).compare("hello", columns=[column])
    assert last["error"]["code"] == code
    named = ["0 to 2"] if layers else ["attention", "mlp", *pair.engine.facts.linears]
    assert all(name in last["error"]["message"] for name in named)
    asked = ComparisonRequest("hello", "", columns=(AskedColumn.read(column),))
    *_, drawn = Answering(pair.engine, {}).page(lambda: asked, None)
    assert all(name in drawn for name in named)
    assert main([*pair.options, *(["--layers", layers] if layers else ["--modules", modules])]) == 2
    assert last["error"]["message"] in capsys.readouterr().err


@torch.inference_mode()
def test_every_family_has_its_map(pair):
    prompt, answer = pair.engine.tokens.prompt_ids("hello"), [*b"rules, skill"]
    found = pair.engine.layer_map(GivenAnswer(prompt, answer, Variant.of("one")))
    assert [(part.layer, part.kind) for part in found.parts] == [
        (layer, kind) for layer in range(LAYERS) for kind in ("attention", "mlp", None)]

    def likelihood(on) -> float:
        log = pair.by_peft(on)(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return sum(float(log[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))

    alone = lambda number, name: number == 1 and inside("", "mlp")(number, name)  # noqa: E731
    part = found.parts[4]
    assert found.base == pytest.approx(likelihood(lambda number, name: False), abs=EXACT)
    assert part.gained == pytest.approx(likelihood(alone) - found.base, abs=EXACT) and abs(part.gained) > 10 * EXACT
    assert part.lost == pytest.approx(found.adapted - likelihood(lambda number, name: not alone(number, name)),
                                      abs=EXACT)


def test_a_base_that_transformers_runs_says_what_it_cannot(pair, capsys):
    """Read layer by layer: one sentence in the terminal, before anything is answered, for a program and on the page;
    the map it has. All others are read."""
    inside = InsideAnswers(pair.engine)
    read = inside.by_layer("hello", max_new_tokens=2)
    assert len(inside.layer_map("hello", max_new_tokens=2)["parts"]) == 3 * LAYERS
    drawn = [*inside.first(Looked("hello", "", "one", (5, 6)))]
    part = inside.layer_map("hello", max_new_tokens=2, layers="1-2", modules="mlp")
    assert [(one["layer"], one["kind"]) for one in part["parts"]] == [(1, "mlp"), (1, None), (2, "mlp"), (2, None)]
    assert part["variant"] == "one [layers 1-2, mlp]"
    status, told = main([*pair.options, "--by-layer", "--map"]), capsys.readouterr()
    if pair.family != GENERAL:
        assert len(read["tokens"][0]["adapted"]["layers"]) == LAYERS and "data-leads" in drawn[-1][1]
        assert status == 0 and "leads from layer" in told.out
        return
    said = read["error"]["message"]
    assert read["error"]["code"] == "engine-cannot-read-by-layer" and "base base runs by transformers' own" in said
    assert status == 2 and said in told.err and not told.out
    assert all(said.replace("'", "&#39;") in layers for _, layers in drawn) and "data-part" in drawn[-1][0]
    assert main([*pair.options, "--map"]) == 0 and "feed-forward (mlp)" in capsys.readouterr().out
