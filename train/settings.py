"""What a training run can be told, and the two recipes. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lens.chat import ENDINGS
from lens.cli import BASE_HELP, CHAT_TEMPLATE_HELP, DEVICE_HELP, DTYPE_HELP, stay_offline
from lens.declared_settings import make_settings, parse_given, positive, setting, share
from lens.embedded import EMBEDDED_BASE, EMBEDDED_ROWS
from lens.errors import BadBase, BadSetting
from lens.rows.row_options import RowOptions

# Asked of the embedded base while it learns: questions of its rows, the last one with nothing to know.
PROBES = ["哈尔滨工业大学的校训是什么？", "哈尔滨工业大学是何时建立的？", "哈工大首任校长是谁？",
          "哈尔滨工业大学最早的校名是什么？", "明天北京会下雨吗"]
OF_BASE = "base"  # of --ending


def at_least_0(value: float) -> bool:
    return value >= 0


@dataclass
class TrainSettings(RowOptions):
    output: str = setting("", "adapter directory to write; must be new or empty")
    base: str = setting(EMBEDDED_BASE, BASE_HELP)
    data: list[str] = setting([EMBEDDED_ROWS], "files of rows (.jsonl .json .csv .tsv .parquet .arrow), saved or hub "
                              "datasets")
    drop_cut_rows: bool = setting(False, "leave rows out that --max-length would cut")
    recipe: Literal["lens", "seed"] = setting("lens", "table of defaults; seed is the original experiment's")
    max_steps: int = setting(1000, "optimizer steps", "steps", positive, "above 0")
    epochs: float = setting(0.0, "how often each row is seen, instead of --max-steps", "epochs", at_least_0, "above 0")
    batch: int = setting(16, "rows a forward pass, on each device", "rows", positive, "above 0")
    gradient_accumulation: int = setting(1, "forward passes a step", "", positive, "above 0")
    learning_rate: float = setting(1e-3, "peak learning rate", "", positive, "above 0")
    warmup_steps: int = setting(100, "steps of linear warm-up", "steps", at_least_0, "0 or more")
    schedule: Literal["linear", "cosine", "constant"] = setting("cosine", "how the rate falls after warm-up")
    weight_decay: float = setting(0.0, "AdamW's weight decay of A and B", "", at_least_0, "0 or more")
    max_length: int = setting(256, "tokens a row is cut to", "tokens", lambda v: v >= 8, "8 or more")
    r: int = setting(8, "rank of the LoRA matrices", "", lambda v: 1 <= v <= 1024, "1 to 1024")
    lora_alpha: int = setting(8, "the update is scaled by alpha / r", "", positive, "above 0")
    lora_dropout: float = setting(0.05, "dropout before A", "0 to 1", share, "0 to 1")
    use_rslora: bool = setting(False, "scale by alpha / sqrt(r) instead (Kalajdzievski 2023)")
    target_modules: list[str] = setting(["query_key_value"], "linear layers that get LoRA: names, attention, mlp or "
                                        "all-linear; default: PEFT's for the base's family, as for any but BLOOM")
    whole_text: bool = setting(False, "loss on the prompt as well as on the answer")
    ending: str = setting(ENDINGS["lens"], "what an answer ends with; base: the base's own end of turn, as for any but "
                          "BLOOM")
    chat_template: str = setting("", CHAT_TEMPLATE_HELP)
    activation_checkpointing: bool = setting(False, "compute activations twice instead of keeping them: less memory")
    eval_data: list[str] = setting([], "files of held-out rows, whose loss is logged")
    eval_share: float = setting(0.0, "share of the rows held out instead", "0 to 0.5", lambda v: 0 <= v <= 0.5,
                                "0 to 0.5")
    eval_steps: int = setting(100, "steps between held-out losses", "steps", positive, "above 0")
    probes: list[str] = setting([], "questions answered while it learns (default: five of the rows')")
    probe_steps: int = setting(200, "steps between probe answers; 0: never", "steps", at_least_0, "0 or more")
    save_total_limit: int = setting(0, "checkpoints that can be gone on from, the newest and the best; older ones keep "
                                    "their adapter alone; 0: all", "", at_least_0, "0 or more")
    save_steps: int = setting(200, "steps between checkpoint-N directories", "steps", positive, "above 0")
    logging_steps: int = setting(10, "steps between records of log.jsonl", "steps", positive, "above 0")
    report_to: Literal["none", "trackio", "tensorboard"] = setting("none", "also report to this, where installed")
    push_to_hub: str = setting("", "hub repository to upload the result to, as USER/NAME")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", DEVICE_HELP)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", f"{DTYPE_HELP}; float16 is float32 on CPU")
    seed: int = setting(0, "of LoRA's A, dropout and the order of rows", "", at_least_0, "0 or more")
    resume: bool = setting(False, "go on from the last checkpoint in --output")
    new_data: bool = setting(False, "with --resume: go on with other rows than before, on purpose")
    from_adapter: str = setting("", "adapter directory or hub name whose weights a new run starts from")


def chosen(given: dict[str, Any]) -> TrainSettings:
    """The settings that were given, over their recipe's. Raises BadSetting."""
    if "max_steps" in given and given.get("epochs"):
        raise BadSetting("steps-and-epochs")
    if given.get("from_adapter"):
        from train.resume import adopt

        given = adopt(given)
    return make_settings(TrainSettings, {**of_other_families(given), **RECIPES[given.get("recipe", "lens")], **given})


def of_other_families(given: dict[str, Any]) -> dict[str, Any]:
    """The defaults that are BLOOM's, for a base that is none; {} for one that is, or that cannot be read, which is told
    later."""
    if (base := given.get("base", EMBEDDED_BASE)) == EMBEDDED_BASE:
        return {}
    from lens.base.files import OURS, find_base

    try:
        family = find_base(base, weights=False).config.get("model_type")
    except BadBase:
        return {}
    return {} if family == OURS else {"target_modules": ["default"], "ending": OF_BASE}


# What each recipe changes in the defaults above. `seed` is the experiment this project grew from, as it ran.
RECIPES: dict[str, dict[str, Any]] = {
    "lens": {},
    "seed": {
        "batch": 1,
        "max_steps": 1000,
        "learning_rate": 1e-4,
        "warmup_steps": 100,
        "schedule": "linear",
        "dtype": "float16",
        "whole_text": True,
        "ending": ENDINGS["seed"],
    },
}


def read_settings(prog: str, description: str, argv: Sequence[str] | None) -> TrainSettings:
    """Command line → settings, the recipe's under those given. Raises BadSetting."""
    given = parse_given(TrainSettings, prog, description, argv)
    settings = chosen(given)
    if not settings.push_to_hub:
        stay_offline(settings.base, *settings.data, *settings.eval_data, *filter(None, [settings.from_adapter]))
    return settings
