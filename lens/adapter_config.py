"""adapter_config.json, judged before PEFT sees it: what rows can express, and nothing that names code or patterns.

PEFT takes any key and only warns of those it does not know: patterns that become regular expressions, packages to
import, layers to repeat, ways of initialising that change the base. So a key passes when it is known to be
harmless or says nothing, and PEFT is given the checked values alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens.errors import BadAdapter
from lens.strict_json import read_object

LINEAR_LAYERS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
LARGEST_RANK, LARGEST_ALPHA = 1024, 65_536
# Values that the comparison cannot express exactly, and the ones it can.
EXACT: dict[str, list] = {
    "peft_type": ["LORA"], "use_dora": [False, None], "bias": ["none", None], "modules_to_save": [None, []],
    "trainable_token_indices": [None], "init_lora_weights": [True, False, "gaussian", None],
    "use_qalora": [False, None], "rank_pattern": [{}, None], "alpha_pattern": [{}, None],
    "megatron_core": ["megatron.core", None]}
# Read here, or of no effect on an answer; every other key has to be empty.
KNOWN = {*EXACT, "r", "lora_alpha", "use_rslora", "target_modules", "layers_to_transform", "lora_dropout", "task_type",
         "base_model_name_or_path", "revision", "inference_mode", "peft_version", "qalora_group_size", "auto_mapping"}


@dataclass(frozen=True)
class LoraSettings:
    """All that is taken over from a checked adapter_config.json."""

    r: int
    lora_alpha: float
    use_rslora: bool
    target_modules: tuple[str, ...]
    layers_to_transform: tuple[int, ...] | None

    def for_peft(self):
        from peft import LoraConfig

        given: dict[str, Any] = vars(self) | {  # Any: an alpha need not be whole, though PEFT annotates it so
            "target_modules": list(self.target_modules),
            "layers_to_transform": self.layers_to_transform and list(self.layers_to_transform)}
        return LoraConfig(task_type="CAUSAL_LM", inference_mode=True, **given)


def read_config(path: Path) -> LoraSettings:
    """Judge the adapter_config.json of an adapter directory. Raises BadAdapter."""
    try:
        config = read_object(path / "adapter_config.json")
    except (ValueError, RecursionError, OSError) as err:
        raise BadAdapter(f"adapter {path}: adapter_config.json cannot be read ({str(err)[:160]})") from err
    for key, allowed in EXACT.items():
        if config.get(key) not in allowed:
            raise BadAdapter(f"adapter {path}: {key} is {shown(config.get(key))}; only {allowed[0]!r} compares exactly")
    for key, value in config.items():
        if key not in KNOWN and value not in (None, False, {}, []):
            raise BadAdapter(f"adapter {path}: {key[:40]} is {shown(value)}; only plain LoRA compares exactly, so it "
                             "has to be empty")
    check_mapping(path, config.get("auto_mapping"))
    return LoraSettings(number(path, config, "r", LARGEST_RANK), number(path, config, "lora_alpha", LARGEST_ALPHA),
                        config.get("use_rslora") is True, targets(path, config), layers(path, config))


def shown(value: object) -> str:
    return repr(value)[:80]


def number(path: Path, config: dict, key: str, largest: int):
    """A rank (whole) or an alpha above 0."""
    value, kind = config.get(key), int if key == "r" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= largest:
        raise BadAdapter(f"adapter {path}: {'rank' if key == 'r' else key} {shown(value)}; allowed: "
                         f"{'1' if key == 'r' else 'above 0'} to {largest:,}")
    return value


def targets(path: Path, config: dict) -> tuple[str, ...]:
    """Names of layers; never a string, which PEFT would read as a regular expression."""
    found = config.get("target_modules")
    if not isinstance(found, list) or not found or not all(isinstance(t, str) and t in LINEAR_LAYERS for t in found):
        raise BadAdapter(f"adapter {path}: target_modules {shown(found)}; allowed: a list of "
                         f"{', '.join(LINEAR_LAYERS)}")
    return tuple(found)


def layers(path: Path, config: dict) -> tuple[int, ...] | None:
    """Numbers of layers; None means all of them, and so does an empty list (but not an empty tuple) to PEFT."""
    found = config.get("layers_to_transform")
    if found in (None, []):
        return None
    numbers = [found] if isinstance(found, int) else found
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1000 for n in numbers):
        raise BadAdapter(f"adapter {path}: layers_to_transform {shown(found)}; allowed: a list of layer numbers")
    return tuple(numbers)


def check_mapping(path: Path, mapping: object) -> None:
    """PEFT writes the base's class here where no task is named; it is never imported, and another's is refused."""
    if mapping and mapping != {"base_model_class": "BloomForCausalLM",
                               "parent_library": "transformers.models.bloom.modeling_bloom"}:
        raise BadAdapter(f"adapter {path}: auto_mapping is {shown(mapping)}; allowed: none, or transformers' "
                         "BloomForCausalLM")
