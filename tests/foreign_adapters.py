"""Adapters of the tiny BLOOM as others write them: by PEFT in its many ways, by torch.compile, DataParallel and MLX."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from conftest import tiny_bloom
from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ALL = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
IDS = torch.arange(5, 37)[None]


def plain(path: Path, **settings) -> Tensor:
    """Write an adapter by PEFT; returns the logits of PEFT's own forward once it has read it, (1, ids, words)."""
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": ALL, **settings})
    model = get_peft_model(tiny_bloom(), config)
    generator = torch.Generator().manual_seed(len(str(settings)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(path, save_embedding_layers=False)
    with torch.inference_mode():
        return PeftModel.from_pretrained(tiny_bloom(), path).eval()(input_ids=IDS).logits


def renamed(change: Callable[[str], str]) -> Callable[[Path], Tensor]:
    """An adapter whose keys are called otherwise."""
    def write(path: Path) -> Tensor:
        from safetensors.torch import load_file, save_file

        logits = plain(path)
        save_file({change(key): value for key, value in load_file(path / WEIGHTS).items()}, path / WEIGHTS)
        return logits

    return write


def configured(**changes) -> Callable[[Path], Tensor]:
    """An adapter with other words in its config that say nothing to PEFT."""
    def write(path: Path) -> Tensor:
        logits = plain(path)
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        (path / CONFIG).write_text(json.dumps({**config, **changes}), encoding="utf-8")
        return logits

    return write


def settings(**given) -> Callable[[Path], Tensor]:
    return lambda path: plain(path, **given)


def below(name: str) -> Callable[[Path], Tensor]:
    return lambda path: plain(path / name)


def pickled(path: Path) -> Tensor:
    """adapter_model.bin, as PEFT wrote it before safetensors."""
    from safetensors.torch import load_file

    logits = plain(path)
    torch.save(load_file(path / WEIGHTS), path / "adapter_model.bin")
    (path / WEIGHTS).unlink()
    return logits


def mlx(path: Path) -> Tensor:
    """adapters.safetensors: lora_a (in, rank), lora_b (rank, out), and a scale in place of an alpha."""
    from safetensors.torch import load_file, save_file

    logits = plain(path)
    found = load_file(path / WEIGHTS)
    save_file({key.removeprefix("base_model.model.").replace(".lora_A.weight", ".lora_a")
               .replace(".lora_B.weight", ".lora_b"): value.T.contiguous() for key, value in found.items()},
              path / "adapters.safetensors")
    (path / CONFIG).write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 2, "model": "bloom",
                                           "lora_parameters": {"rank": 4, "scale": 1.5, "dropout": 0.0}}))
    (path / WEIGHTS).unlink()
    (path / "README.md").unlink()
    return logits


def left_by(files: list[str], **changes) -> Callable[[Path], Tensor]:
    """An adapter as a tool leaves it: these files beside it, which are not read, and these words in its config. By the
    listings of what the tools write; none of them is installed here."""
    def write(path: Path) -> Tensor:
        logits = configured(**changes)(path)
        for name in files:
            (path / name).write_bytes(b"not read")
        return logits

    return write


def under_a_run(path: Path) -> Tensor:
    """A Trainer's checkpoint with its optimizer; the tokenizer lies in the run's folder."""
    logits = left_by(TRAINER)(path / "checkpoint-30")
    (path / "tokenizer_config.json").write_text("{}")
    (path / "trainer_state.json").write_text("{}")
    return logits


def run_folder(path: Path) -> Tensor:
    """A run that was killed before its result: checkpoints, the newest of them half written."""
    plain(path / "checkpoint-200", r=2)
    logits = plain(path / "checkpoint-400")
    plain(path / "checkpoint-1000")
    (path / "checkpoint-1000" / WEIGHTS).write_bytes((path / "checkpoint-1000" / WEIGHTS).read_bytes()[:999])
    (path / "log.jsonl").touch()
    return logits


LAST = "mlp.dense_h_to_4h"
TRAINER = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"]
UNSLOTH = {"auto_mapping": {"base_model_class": "BloomForCausalLM", "unsloth_fixed": True,
                            "parent_library": "transformers.models.bloom.modeling_bloom"},
           "base_model_name_or_path": "unsloth/bloom-bnb-4bit", "inference_mode": True, "lora_bias": False}
# Taken: each compares exactly as PEFT's own forward does.
TAKEN: dict[str, Callable[[Path], Tensor]] = {
    "rank pattern": settings(rank_pattern={"dense": 2, r"h\.1\..*query_key_value": 7}),
    "alpha pattern": settings(alpha_pattern={r"h\.0\..*": 1, r"h\.1\..*dense_4h_to_h": 2.5}),
    "alphas that overlap": settings(alpha_pattern={"dense_4h_to_h": 40, r".*dense.*": 2}),
    "both patterns, rslora": settings(rank_pattern={LAST: 9}, alpha_pattern={LAST: 40}, use_rslora=True),
    "regular expression": settings(target_modules=r"transformer\.h\.\d+\.(self_attention|mlp)\.dense.*"),
    "layers": settings(layers_to_transform=[1]),
    "one layer": settings(layers_to_transform=0, layers_pattern="h"),
    "whole names": settings(target_modules=["transformer.h.0.self_attention.dense", "h.1.mlp.dense_h_to_4h"]),
    "orthogonal": settings(init_lora_weights="orthogonal"),
    "compiled": renamed(lambda key: f"_orig_mod.{key}"),
    "compiled base": renamed(lambda key: key.replace("base_model.model.", "base_model.model._orig_mod.")),
    "compiled blocks": renamed(lambda key: key.replace(".self_attention", "._orig_mod.self_attention")),
    "distributed": renamed(lambda key: f"module.{key}"),
    "distributed base": renamed(lambda key: key.replace("base_model.model.", "base_model.model.module.")),
    "wrapped base": renamed(lambda key: key.replace("base_model.model.", "base_model.model.model.")),
    "says nothing": configured(trainable_token_indices=[], fan_in_fan_out=True, eva_config={}, exclude_modules=[]),
    "in lora": below("lora"),
    "in default": below("default"),
    "in 第一次 run": below("第一次 run"),
    "killed run": run_folder,
    "LLaMA-Factory": left_by([*TRAINER[3:], "all_results.json", "trainer_log.jsonl", "training_loss.png"],
                             inference_mode=True, base_model_name_or_path="/data/bloom", corda_config=None,
                             lora_bias=False, target_parameters=None, use_qalora=False, qalora_group_size=16),
    "Axolotl": left_by(["config.json", "README.md"], base_model_name_or_path="bigscience/bloom-560m", revision=None),
    "Unsloth": left_by([], **UNSLOTH),
    "checkpoint": left_by(TRAINER),
    "checkpoint under a run": under_a_run,
    "DeepSpeed": renamed(lambda key: key.replace(".weight", ".default.weight")),
}


@dataclass(frozen=True)
class Refused:
    """`write` makes the adapter; `code` of what is said, the same wherever it is given."""

    write: Callable[[Path], object]
    code: str


def without(path: Path, key: str) -> None:
    plain(path)
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    del config[key]
    (path / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def a_base(path: Path) -> None:
    tiny_bloom().save_pretrained(path)


def two_below(path: Path) -> None:
    plain(path / "one")
    shutil.copytree(path / "one", path / "two")


def pointer(path: Path) -> None:
    plain(path)
    (path / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


REFUSED = {
    "DoRA": Refused(settings(use_dora=True), "adapter-dora"),
    "trained tokens": Refused(settings(trainable_token_indices=[5]), "adapter-trains-tokens"),
    "saved modules": Refused(settings(modules_to_save=["ln_f"]), "adapter-saves-modules"),
    "bias": Refused(settings(bias="lora_only"), "adapter-bias"),
    "PiSSA": Refused(settings(init_lora_weights="pissa"), "adapter-init-changes-base"),
    "OLoRA": Refused(settings(init_lora_weights="olora"), "adapter-init-changes-base"),
    "LoftQ": Refused(configured(init_lora_weights="loftq"), "adapter-init-changes-base"),
    "the embedding": Refused(settings(target_modules=["word_embeddings"]), "adapter-on-embedding"),
    "the head": Refused(settings(target_modules=["lm_head"]), "adapter-on-embedding"),
    "rank as text": Refused(configured(r="8"), "adapter-bad-rank"),
    "no alpha": Refused(lambda path: without(path, "lora_alpha"), "adapter-number-missing"),
    "a pickle": Refused(pickled, "adapter-is-pickled"),
    "MLX": Refused(mlx, "adapter-is-mlx"),
    "a base": Refused(a_base, "adapter-is-a-base"),
    "two below": Refused(two_below, "adapter-several-below"),
    "a pointer": Refused(pointer, "adapter-lfs-pointer"),
    "nothing": Refused(lambda path: path.mkdir(), "adapter-file-missing"),
}
