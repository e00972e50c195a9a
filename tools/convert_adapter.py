"""python -m tools.convert_adapter DIR --output NEW: a foreign adapter as a plain one of PEFT's in safetensors.

From `adapter_model.bin` (read without unpickling code), or from MLX's `adapters.safetensors`, whose A and B stand
transposed. The result is judged as any adapter is before it appears.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from lens.adapter.directory import fit_of, judge
from lens.adapter.find import CONFIG, MLX, PICKLE, PROMPTS, find_adapter
from lens.adapter.weights import WEIGHTS
from lens.cli import Parser
from lens.errors import BadAdapter, BadSetting, LensError, first_line
from lens.file_mode import follow_umask
from lens.strict_json import read_object

LARGEST = 8 << 30  # bytes


def convert(source: Path, output: Path, base: str = "") -> None:
    """Write `output`, made whole by one rename. Raises BadAdapter for what is no plain LoRA, BadBase, or BadSetting.

    `base`: whose adapter it is; a BLOOM's where none is named.
    """
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise BadSetting("merge-output-not-empty", output=output)
    config, weights = from_mlx(source) if (source / MLX).is_file() else from_pickle(source)
    part = output.with_name(output.name + ".part")
    try:
        write(part, source, config, weights)
        judge(part, output.name, fit=fit_of(base or None))
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
    except OSError as err:
        raise BadSetting("merge-output-not-written", output=output, reason=first_line(err)) from err
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write(part: Path, source: Path, config: dict, weights: dict) -> None:
    from safetensors.torch import save_file

    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, part / WEIGHTS, {"format": "pt"})
    (part / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
    for name in (*PROMPTS, "training.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, part / name)
    follow_umask(part)


def read_config(source: Path) -> dict:
    try:
        return read_object(source / CONFIG)
    except (ValueError, RecursionError, OSError) as err:
        raise BadAdapter("adapter-config-unreadable", path=source, reason=str(err)[:160]) from err


def from_pickle(source: Path) -> tuple[dict, dict]:
    """PEFT's adapter_model.bin: tensors by name, and nothing else in it is accepted."""
    import torch

    file = source / PICKLE
    if not file.is_file():
        raise BadAdapter("convert-nothing", path=source, files=f"{PICKLE}, {MLX}")
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        weights = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
            raise ValueError("it holds more than tensors by name")
    except Exception as err:  # noqa: BLE001 (whatever a damaged or crafted file raises)
        raise BadAdapter("convert-unreadable", path=source, file=PICKLE, reason=first_line(err)) from err
    return read_config(source), {str(key): value.detach().clone() for key, value in weights.items()}


def from_mlx(source: Path) -> tuple[dict, dict]:
    """MLX's lora_a (in, rank) and lora_b (rank, out), and its `lora_parameters`: rank and scale."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    given = read_config(source)
    try:
        found = load_file(source / MLX)
        rank, scale = int(given["lora_parameters"]["rank"]), float(given["lora_parameters"]["scale"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as err:
        raise BadAdapter("convert-unreadable", path=source, file=MLX, reason=repr(err)[:160]) from err
    weights = {}
    for key, value in found.items():
        module, _, side = key.rpartition(".lora_")
        if given.get("fine_tune_type", "lora") != "lora" or side not in ("a", "b") or value.ndim != 2:
            raise BadAdapter("convert-not-lora", path=source, kind=repr(given.get("fine_tune_type", "lora"))[:40],
                             key=repr(key[:120]))
        module = module.removeprefix("model.") if module.startswith("model.transformer.") else module
        weights[f"base_model.model.{module}.lora_{side.upper()}.weight"] = value.T
    names = sorted({key.split(".lora_")[0].removeprefix("base_model.model.") for key in weights})
    return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank * scale, "bias": "none",
            "target_modules": names, "base_model_name_or_path": given.get("model")}, weights


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.convert_adapter", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("adapter", help="directory or hub name with adapter_model.bin or MLX's adapters.safetensors")
    parser.add_argument("--output", type=Path, required=True, help="adapter directory to write; must be new")
    parser.add_argument("--base", default="", help="the base that it is for (default: any BLOOM)")
    args = parser.parse_args(argv)
    try:
        convert(find_adapter(args.adapter), args.output, args.base)
    except LensError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
