"""adapter_config.json, judged before PEFT sees it: what rows can express, and nothing that names code.

PEFT takes any key and only warns of those it does not know: patterns that backtrack for ever, packages to import,
layers to repeat, ways of initialising that change the base. So a key passes when it is known to be harmless or says
nothing. What it says of layers is worked out here, name by name, and PEFT is given the names and ranks alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens.adapter.fit import Fit, outside
from lens.errors import BadAdapter, Note
from lens.strict_json import read_object

NUMBER = re.compile(r".*\.[^.]*\.(\d+)\.")  # of a module's block, as PEFT looks for it
LARGEST_RANK, LARGEST_ALPHA = 1024, 65_536
LONGEST_PATTERN, MOST_PATTERNS = 1000, 1000  # characters of one; BLOOM's largest has 280 layers to name
LONGEST_TARGET, MOST_TARGETS = 200, 10_000
PATIENCE = 1.0  # seconds of matching that one adapter's patterns may take in all
NOTHING: tuple[Any, ...] = (None, False, {}, [], "")
# What one forward of rows cannot express: key → the values it can beside
# none at all, and the code that says why not.
EXACT: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_dora": ((), "adapter-dora"),
    "bias": (("none",), "adapter-bias"),
    "modules_to_save": ((), "adapter-saves-modules"),
    "trainable_token_indices": ((), "adapter-trains-tokens"),
    "init_lora_weights": ((True, "gaussian", "orthogonal"), "adapter-init-changes-base"),
    "megatron_core": (("megatron.core",), "adapter-setting-unknown")}
# Read here, or of no effect on an answer; every other key has to be empty.
KNOWN = {*EXACT, "layers_pattern", "peft_type", "r", "lora_alpha", "use_rslora", "target_modules",
         "layers_to_transform", "rank_pattern", "alpha_pattern", "lora_dropout", "task_type", "base_model_name_or_path",
         "revision", "inference_mode", "peft_version", "qalora_group_size", "auto_mapping", "fan_in_fan_out",
         "ensure_weight_tying"}


class Patterns:
    """Regular expressions of another's making, matched against names within a time limit for all of them."""

    def __init__(self, path: Path):
        self.path, self.left = path, PATIENCE

    def match(self, key: str, pattern: str, name: str) -> bool:
        """Does the whole name match? `key`: the setting it stands in. Raises BadAdapter."""
        import regex  # which can be told to give up, unlike `re`

        began = time.perf_counter()
        try:
            return regex.fullmatch(pattern, name, timeout=max(self.left, 0.001)) is not None
        except TimeoutError as err:
            raise BadAdapter("adapter-pattern-slow", path=self.path, key=key, pattern=shown(pattern),
                             seconds=PATIENCE) from err
        except (regex.error, RecursionError, ValueError, OverflowError, MemoryError) as err:
            raise BadAdapter("adapter-pattern-broken", path=self.path, key=key, pattern=shown(pattern),
                             reason=str(err)[:80]) from err
        finally:
            self.left -= time.perf_counter() - began


@dataclass(frozen=True)
class LoraSettings:
    """All that is taken over from a checked adapter_config.json.

    `target_modules`: ends of module names, or one regular expression for whole names; `rank_pattern` and
    `alpha_pattern`: regular expression for the end of a name → its rank or alpha, of which the first that fits counts;
    `made_for`: the base that it names, to be shown, or that it names none.
    """

    r: int
    lora_alpha: float
    use_rslora: bool
    target_modules: tuple[str, ...] | str
    layers_to_transform: tuple[int, ...] | None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    made_for: str | Note = field(default=Note("adapter-base-unnamed"), compare=False)

    def targets(self, module: str, patterns: Patterns) -> bool:
        """Does PEFT put A and B on the module of this name, such as `transformer.h.0.mlp.dense_h_to_4h`?"""
        if isinstance(self.target_modules, str):
            if self.target_modules.lower() == "all-linear":
                return True
            return patterns.match("target_modules", self.target_modules, module)
        if not any(f".{module}".endswith(f".{name}") for name in self.target_modules):
            return False
        number = NUMBER.match(module)
        return self.layers_to_transform is None or bool(number and int(number[1]) in self.layers_to_transform)

    def rank_of(self, module: str, patterns: Patterns) -> int:
        return next((rank for end, rank in self.rank_pattern.items()
                     if patterns.match("rank_pattern", rf"(.*\.)?({end})", module)), self.r)

    def alphas_of(self, module: str, patterns: Patterns) -> list[float]:
        """The alphas that the patterns give a module, in their order: the first counts."""
        return [alpha for end, alpha in self.alpha_pattern.items()
                if patterns.match("alpha_pattern", rf"(.*\.)?({end})", module)] or [self.lora_alpha]


def read_config(path: Path, fit: Fit = Fit()) -> LoraSettings:
    """Judge the adapter_config.json of an adapter directory. Raises BadAdapter."""
    try:
        config = read_object(path / "adapter_config.json")
    except (ValueError, RecursionError, OSError) as err:
        raise BadAdapter("adapter-config-unreadable", path=path, reason=str(err)[:160]) from err
    if config.get("peft_type") != "LORA":
        raise BadAdapter("adapter-not-lora", path=path, value=shown(config.get("peft_type")))
    for key, (allowed, code) in EXACT.items():
        if not says_nothing(config.get(key)) and config[key] not in allowed:
            raise BadAdapter(code, path=path, key=key, value=shown(config[key]))
    for key, value in config.items():
        if key not in KNOWN and not says_nothing(value):
            raise BadAdapter("adapter-setting-unknown", path=path, key=key[:40], value=shown(value))
    check_names(path, config, fit)
    return LoraSettings(number(path, config, "r"), number(path, config, "lora_alpha"),
                        config.get("use_rslora") is True, targets(path, config, fit), layers(path, config),
                        pattern(path, config, "rank_pattern"), pattern(path, config, "alpha_pattern"),
                        made_for(config))


def made_for(config: dict[str, Any]) -> str | Note:
    """The base that it was trained on, as far as it says."""
    named = config.get("base_model_name_or_path")
    return shown(named) if isinstance(named, str) and named else Note("adapter-base-unnamed")


def says_nothing(value: object) -> bool:
    """Is it empty to PEFT: none, false, nothing in it, or a table of such values?"""
    return value in NOTHING or isinstance(value, dict) and all(v in NOTHING for v in value.values())


def shown(value: object) -> str:
    return repr(value)[:80]


def number(path: Path, config: dict[str, Any], key: str) -> Any:
    """A rank (whole) or an alpha above 0."""
    if key not in config:
        raise BadAdapter("adapter-number-missing", path=path, key=key)
    value = config[key]
    if not fits(key, value) and key == "r":
        raise BadAdapter("adapter-bad-rank", path=path, key=key, value=shown(value), largest=LARGEST_RANK)
    if not fits(key, value):
        raise BadAdapter("adapter-bad-alpha", path=path, key=key, value=shown(value), largest=LARGEST_ALPHA)
    return value


def fits(key: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key in ("r", "rank_pattern"):
        return isinstance(value, int) and 0 < value <= LARGEST_RANK
    return 0 < value <= LARGEST_ALPHA


def targets(path: Path, config: dict[str, Any], fit: Fit) -> tuple[str, ...] | str:
    """A regular expression, or ends of names of linear layers."""
    found = config.get("target_modules")
    if isinstance(found, str) and found:
        if len(found) > LONGEST_PATTERN:
            raise BadAdapter("adapter-pattern-long", path=path, key="target_modules", largest=LONGEST_PATTERN)
        if layers(path, config) is not None:
            raise BadAdapter("adapter-pattern-and-layers", path=path)
        return found
    if not isinstance(found, list) or not 0 < len(found) <= MOST_TARGETS or not all(
            isinstance(t, str) and len(t) <= LONGEST_TARGET for t in found):
        raise BadAdapter("adapter-bad-targets", path=path, value=shown(found), allowed=", ".join(fit.names))
    if odd := [name for name in found if not fit.allows(name)]:
        if fit.base and not outside(odd[0]):
            raise of_another_family(path, made_for(config), shown(found), fit)
        code = "adapter-on-embedding" if outside(odd[0]) else "adapter-bad-targets"
        raise BadAdapter(code, path=path, value=shown(found), allowed=", ".join(fit.names))
    return tuple(found)


def of_another_family(path: Path, made: str | Note, layers_named: str, fit: Fit) -> BadAdapter:
    """What to say of an adapter on layers that this base has not."""
    return BadAdapter("adapter-of-another-family", path=path, made_for=made, layers=layers_named,
                      base=shown(fit.base), family=fit.family, allowed=", ".join(fit.names))


def layers(path: Path, config: dict[str, Any]) -> tuple[int, ...] | None:
    """Numbers of layers; None means all of them, and so does an empty list (but not an empty tuple) to PEFT."""
    found = config.get("layers_to_transform")
    if found in (None, []):
        return None
    numbers = [found] if isinstance(found, int) else found
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1000 for n in numbers):
        raise BadAdapter("adapter-bad-layers", path=path, value=shown(found))
    return tuple(numbers)


def pattern(path: Path, config: dict[str, Any], key: str) -> dict[str, Any]:
    """End of a module's name → rank or alpha."""
    found = config.get(key) or {}
    if not isinstance(found, dict) or len(found) > MOST_PATTERNS or not all(fits(key, v) for v in found.values()):
        raise BadAdapter("adapter-bad-pattern", path=path, key=key, value=shown(found),
                         largest=LARGEST_RANK if key == "rank_pattern" else LARGEST_ALPHA)
    if any(len(end) > LONGEST_PATTERN for end in found):
        raise BadAdapter("adapter-pattern-long", path=path, key=key, largest=LONGEST_PATTERN)
    return found


def check_names(path: Path, config: dict[str, Any], fit: Fit) -> None:
    """PEFT writes the base's class here where no task is named; it is never imported, and another's is refused. So is
    a list of blocks that is called otherwise than the base's."""
    mapping, blocks = config.get("auto_mapping"), config.get("layers_pattern")
    if isinstance(mapping, dict):  # Unsloth's own mark says nothing of the weights
        mapping = {key: value for key, value in mapping.items() if key != "unsloth_fixed"}
    if fit.any_decoder:
        return
    if not says_nothing(blocks) and blocks not in (fit.blocks, [fit.blocks]):
        raise BadAdapter("adapter-layers-pattern", path=path, value=shown(blocks), blocks=fit.blocks)
    if mapping and mapping != fit.mapping:
        raise BadAdapter("adapter-bad-mapping", path=path, value=shown(mapping),
                         allowed=fit.mapping["base_model_class"])
