"""Adapter directories made to break something: each a copy of the shipped one, spoilt, with what must be said of it.

Generators only: `test_trust.py` and `python -m bench.trust files` use them. Knows nothing of how they are judged.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile import Pickled

ADAPTER = Path(__file__).resolve().parent.parent / "assets" / "adapters" / "lens"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
R = json.loads((ADAPTER / CONFIG).read_text(encoding="utf-8"))["r"]
A_BYTES, B_BYTES = R * 256 * 4, 768 * R * 4  # of query_key_value


@dataclass(frozen=True)
class Hostile:
    """`spoil` turns a copy of the shipped adapter (config, weights) into a hostile one; `said` is named of it."""

    spoil: Callable[[Path], object]
    said: str


def place(path: Path) -> Path:
    """A copy of the shipped adapter's two necessary files."""
    path.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copy(ADAPTER / name, path)
    return path


def _config(**changes) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text())
        (path / CONFIG).write_text(json.dumps({**config, **changes}))

    return spoil


def _without(key: str) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text())
        del config[key]
        (path / CONFIG).write_text(json.dumps(config))

    return spoil


def _file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def _weights(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(path / WEIGHTS)
        change(weights)
        save_file({k: v.contiguous() for k, v in weights.items()}, path / WEIGHTS)

    return spoil


def _each(change: Callable) -> Callable[[Path], object]:
    return _weights(lambda w: w.update({k: change(v) for k, v in w.items()}))


def _add(key: str, *shape: int) -> Callable[[Path], object]:
    import torch

    return _weights(lambda w: w.update({key: torch.zeros(shape)}))


def _header(header: bytes, length: int | None = None, data: bytes = b"") -> Callable[[Path], object]:
    """A safetensors file by hand: 8 bytes of length, JSON, data."""
    return _file(WEIGHTS, struct.pack("<Q", len(header) if length is None else length) + header + data)


def _link(name: str, target: str) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)

    return spoil


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return spoil


def _twice(path: Path) -> None:
    (path / CONFIG).write_text(f'{{"r": {R}, ' + (path / CONFIG).read_text().lstrip()[1:])


def _sparse(path: Path) -> None:
    """One matrix of 4 TB that takes no room on the disk."""
    one = {"dtype": "F32", "shape": [R, 1 << 37], "data_offsets": [0, 1 << 42]}
    header = json.dumps({KEY_A: one, KEY_B: {**ONE_B, "data_offsets": [1 << 42, (1 << 42) + B_BYTES]}}).encode()
    with (path / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + (1 << 40))


def _template(text: str) -> Callable[[Path], object]:
    return _file("chat_template.jinja", text.encode())


def _tokenizer(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        shutil.copy(ADAPTER / "tokenizer_config.json", path)
        tokenizer = json.loads((ADAPTER / "tokenizer.json").read_text())
        change(tokenizer)
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))

    return spoil


def _swap_words(tokenizer: dict) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({k: 400 + (v - 399) % 6600 for k, v in vocabulary.items() if 400 <= v < 7000})


def _backtrack(tokenizer: dict) -> None:
    """Another vocabulary, and a pattern that takes 2^n steps on n letters a."""
    _swap_words(tokenizer)
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "(a+)+b"}


LAYER = "base_model.model.transformer.h.0.self_attention.query_key_value"
KEY_A, KEY_B = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
ONE = {"dtype": "F32", "shape": [R, 256], "data_offsets": [0, A_BYTES]}
ONE_B = {"dtype": "F32", "shape": [768, R], "data_offsets": [A_BYTES, A_BYTES + B_BYTES]}
REGEX_BOMB = r"((.|.)+)+\d\d"  # 2^n steps on n letters
LOOP = "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4
FIXED_TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
FIT, BROUGHT, ANOTHER = "does not fit this base", "chat template or tokenizer", "another chat template or tokenizer"
EMBEDDING = "base_model.model.transformer.word_embeddings"
CODE = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
TWICE = f'{{"{KEY_A}": {json.dumps(ONE)}, "{KEY_A}": {json.dumps(ONE)}}}'.encode()
NEGATIVE = json.dumps({KEY_A: {**ONE, "shape": [-R, -256]}, KEY_B: ONE_B}).encode()
MARKED = "{% for m in messages %}<|beginofutterance|>{{ m.content }}<|endofutterance|>{% endfor %}"


def _loop(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).symlink_to(path / WEIGHTS)


# Each by name; `said` is part of the sentence. The shapes are the embedded base's: 256 wide, 6 layers.
ADAPTERS: dict[str, Hostile] = {
    # keys
    "a key of the base": Hostile(_add("base_model.model.transformer.ln_f.weight", 256), "ln_f"),
    "the base's embedding": Hostile(_add(f"{EMBEDDING}.weight", 8064, 256), "word_embeddings"),
    "a base layer": Hostile(_add(f"{LAYER}.base_layer.weight", 768, 256), "base_layer"),
    "a plain weight": Hostile(_add(f"{LAYER}.weight", 768, 256), "only lora_A and lora_B"),
    "a magnitude vector": Hostile(_add(f"{LAYER}.lora_magnitude_vector.weight", 768), "magnitude"),
    "trained tokens": Hostile(_add(f"{EMBEDDING}.token_adapter.trainable_tokens_delta", 2, 256), "token_adapter"),
    "a bias of B": Hostile(_add(f"{LAYER}.lora_B.bias", 768), "lora_B.bias"),
    "a key with a line end": Hostile(_add(KEY_A + "\n", R, 256), "only lora_A and lora_B"),
    "a key as a path": Hostile(_add("../../../../tmp/owned.lora_A.weight", R, 256), "only lora_A and lora_B"),
    "half of a layer": Hostile(_add(KEY_A.replace("h.0.", "h.99."), R, 256), "has no lora_B"),
    "a layer that is not there": Hostile(_weights(lambda w: w.update(
        {k.replace("h.0.", "h.99."): v.clone() for k, v in w.items()})), FIT),
    "a layer too few": Hostile(_weights(lambda w: [w.pop(k) for k in list(w) if ".h.0.mlp.dense_h" in k]), FIT),
    "half of the matrices": Hostile(_weights(lambda w: [w.pop(k) for k in list(w) if "lora_B" in k]), "has no lora_B"),
    "a matrix under two names": Hostile(_add(f"module.{KEY_A}", R, 256), "the same matrix"),
    # weights
    "NaN": Hostile(_each(lambda v: v * float("nan")), "NaN or infinity"),
    "one infinity": Hostile(_weights(lambda w: w[KEY_A].view(-1)[5].fill_(float("inf"))), "NaN or infinity"),
    "beyond float16": Hostile(_each(lambda v: v * 1e30), "allowed: up to 65,504"),
    "float64": Hostile(_each(lambda v: v.double()), "F64"),
    "integers": Hostile(_each(lambda v: v.int()), "I32"),
    "truth values": Hostile(_each(lambda v: v.bool()), "BOOL"),
    "all zero": Hostile(_each(lambda v: v * 0), "changes nothing"),
    "flat matrices": Hostile(_each(lambda v: v.flatten()), "has shape ["),
    "another rank than said": Hostile(_each(lambda v: v[:4] if v.shape[0] == R else v[:, :4]), f"rank {R}"),
    "another width": Hostile(_each(lambda v: v[:, :128] if v.shape[0] == R else v), FIT),
    "empty matrices": Hostile(_each(lambda v: v[:, :0] if v.shape[0] == R else v), f"shape [{R}, 0]"),
    # the file
    "a Git LFS pointer": Hostile(_file(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
                                 "git lfs pull"),
    "0 bytes": Hostile(_file(WEIGHTS, b""), "cannot be read"),
    "4 bytes": Hostile(_file(WEIGHTS, b"\0\0\0\0"), "cannot be read"),
    "a header of 2^63 bytes": Hostile(_header(b"{}", 1 << 63), "header"),
    "a header of 90 MB": Hostile(_header(b'{"__metadata__": {"a": "' + b" " * 90_000_000 + b'"}}'), "header"),
    "a header that nests": Hostile(_header(b"[" * 200_000), "cannot be read"),
    "a header that is no object": Hostile(_header(b"[1, 2]"), "cannot be read"),
    "a key twice in the header": Hostile(_header(TWICE, data=b"\0" * A_BYTES), "twice"),
    "offsets past the end": Hostile(_header(json.dumps({KEY_A: ONE, KEY_B: ONE_B}).encode()), "cannot be read"),
    "negative shapes": Hostile(_header(NEGATIVE, data=b"\0" * A_BYTES), "shape"),
    "4 TB that take no room": Hostile(_sparse, "shape"),
    "no tensor": Hostile(_header(b"{}"), "none"),
    "a pickle for weights": Hostile(_file(WEIGHTS, pickle.dumps(Pickled())), "cannot be read"),
    "a .bin beside nothing": Hostile(
        _instead(WEIGHTS, lambda p: p.with_name("adapter_model.bin").write_bytes(pickle.dumps(Pickled()))),
        "adapter_model.safetensors is missing",
    ),
    "a pipe for weights": Hostile(_instead(WEIGHTS, os.mkfifo), "is missing"),
    "a directory for weights": Hostile(_instead(WEIGHTS, Path.mkdir), "is missing"),
    "a link to the base's weights": Hostile(
        _link(WEIGHTS, str(ADAPTER.parent.parent / "base" / "model.safetensors")), "leads out of"
    ),
    "a link to a password file": Hostile(_link(CONFIG, "/etc/passwd"), "leads out of"),
    "a link to endless zeros": Hostile(_link(WEIGHTS, "/dev/zero"), "is missing"),
    "a link in a circle": Hostile(_loop, "is missing"),
    # the config
    "0 bytes of config": Hostile(_file(CONFIG, b""), "cannot be read"),
    "config of 200,000 brackets": Hostile(_file(CONFIG, b"[" * 200_000), "cannot be read"),
    "config of 50 MB": Hostile(_file(CONFIG, b" " * 50_000_000), "at most"),
    "config in UTF-16": Hostile(_file(CONFIG, '{"r": 8}'.encode("utf-16")), "cannot be read"),
    "config that is a list": Hostile(_file(CONFIG, b"[8]"), "cannot be read"),
    "a key twice": Hostile(_twice, "stands twice"),
    "rank of 10^9": Hostile(_config(r=10**9), "rank"),
    "rank true": Hostile(_config(r=True), "rank"),
    "rank -1": Hostile(_config(r=-1), "rank"),
    "alpha NaN": Hostile(_config(lora_alpha=float("nan")), "cannot be read"),
    "alpha 1e308": Hostile(_config(lora_alpha=1e308), "lora_alpha"),
    "alpha as text": Hostile(_config(lora_alpha="8"), "lora_alpha"),
    "a regular expression without end": Hostile(_config(target_modules=REGEX_BOMB), "target_modules: matching"),
    "a regular expression that is none": Hostile(_config(target_modules="(("), "target_modules: '((' is no regular"),
    "a regular expression of 5,000 characters": Hostile(_config(target_modules="." * 5000), "more than 1,000"),
    "a regular expression of other layers": Hostile(_config(target_modules=r".*\.dense"), "target_modules"),
    "an expression and layers": Hostile(_config(target_modules=".*dense", layers_to_transform=[0]), "PEFT refuses"),
    "targets in a list in a list": Hostile(_config(target_modules=[["dense"]]), "target_modules"),
    "targets of another family": Hostile(_config(target_modules=["q_proj"]), "target_modules"),
    "the embedding": Hostile(_config(target_modules=["word_embeddings"]), "target_modules"),
    "layers that are not named": Hostile(_config(layers_to_transform=[0, 1]), "target_modules"),
    "a pattern of layers": Hostile(_config(layers_to_transform=[0], layers_pattern=REGEX_BOMB), "layers_pattern"),
    "a pattern of what to leave out": Hostile(_config(exclude_modules=REGEX_BOMB), "exclude_modules"),
    "a pattern of ranks": Hostile(_config(rank_pattern={REGEX_BOMB: 4}), "rank_pattern"),
    "a rank of another layer's": Hostile(_config(rank_pattern={"dense": 4}), "rank 4"),
    "a rank of 10^9 in a pattern": Hostile(_config(rank_pattern={"dense": 10**9}), "rank_pattern"),
    "a pattern of alphas": Hostile(_config(alpha_pattern={REGEX_BOMB: 4}), "alpha_pattern"),
    "an alpha of text in a pattern": Hostile(_config(alpha_pattern={"dense": "4"}), "alpha_pattern"),
    "layers repeated": Hostile(_config(layer_replication=[[0, 6]] * 50), "layer_replication"),
    "a package to import": Hostile(_config(megatron_config={"a": 1}, megatron_core="antigravity"), "megatron_co"),
    "a class to import": Hostile(
        _config(auto_mapping={"base_model_class": "system", "parent_library": "os"}), "auto_mapping"
    ),
    "a runtime of its own": Hostile(_config(runtime_config={"ephemeral_gpu_offload": True}), "runtime_config"),
    "a kind of LoRA to come": Hostile(_config(use_quantum_lora=True), "use_quantum_lora"),
    "PiSSA": Hostile(_config(init_lora_weights="pissa"), "init_lora_weights"),
    "EVA": Hostile(_config(eva_config={"rho": 2.0}), "eva_config"),
    "DoRA": Hostile(_config(use_dora=True), "use_dora"),
    "aLoRA": Hostile(_config(alora_invocation_tokens=[5]), "alora_invocation_tokens"),
    "modules to save": Hostile(_config(modules_to_save=["word_embeddings"]), "modules_to_save"),
    "tokens in the config": Hostile(
        _config(trainable_token_indices={"word_embeddings": [1]}), "trainable_token_indices"
    ),
    "not LoRA": Hostile(_config(peft_type="PREFIX_TUNING"), "peft_type"),
    "no lora_alpha": Hostile(_without("lora_alpha"), "lora_alpha is missing"),
    "no rank": Hostile(_without("r"), "r is missing"),
    "rank as text": Hostile(_config(r="8"), "rank '8'"),
    "bias": Hostile(_config(bias="all"), "bias"),
    # what it brings along
    "a foreign template": Hostile(_template(FIXED_TEMPLATE), ANOTHER),
    "a template that marks otherwise": Hostile(_template(MARKED), ANOTHER),
    "a template that breaks out": Hostile(_template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), BROUGHT),
    "a template without end": Hostile(_template(LOOP), BROUGHT),
    "a template of 5 MB": Hostile(_template("a" * 5_000_000), "at most"),
    "a foreign tokenizer": Hostile(_tokenizer(_swap_words), ANOTHER),
    "a tokenizer with a regex bomb": Hostile(_tokenizer(_backtrack), BROUGHT),
    "a tokenizer that is none": Hostile(_file("tokenizer.json", b"{}"), BROUGHT),
    "a tokenizer that brings code": Hostile(_file("tokenizer_config.json", json.dumps(CODE).encode()), BROUGHT),
}
