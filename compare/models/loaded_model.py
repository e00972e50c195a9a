"""One base with adapters on it: its weights, its forward, and the proof of each adapter. For one thread at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from compare.analysis.token_text import Tokens
from compare.engine.interface import Shape, Variant
from compare.models.decoders import decoder_of
from compare.models.lora_rows import Gate, gate_of, stack
from compare.models.receipt import Receipt, base_logits, receipt
from lens.adapter.directory import AdapterFiles
from lens.adapter.for_peft import attach
from lens.base.loading import Base


class LoadedModel:
    """`model`: transformers' model, within a PeftModel while there are adapters; `decoder`: its forward by rows.

    `adapters` and `receipts`, by name, are of those that are on the model; `ends`: the ids that end an answer.
    """

    def __init__(self, base: str, loaded: Base, adapters: Mapping[str, AdapterFiles]):
        """Put adapters on a loaded base. Raises BadAdapter for one that does not fit or changes nothing."""
        self.base, self.base_name, self.device, self.dtype = base, loaded.name, loaded.device, loaded.dtype
        self.tokenizer, self.tokens = loaded.tokenizer, Tokens(loaded.tokenizer)
        config = loaded.model.config
        self.shape = Shape(config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
        self.ends = tuple(dict.fromkeys([self.tokens.end_id, *sorted(loaded.end_ids)]))
        self.parameters: int = loaded.model.num_parameters()
        self.model: Any = loaded.model
        base_logits(loaded.model)  # a process's first forward may round otherwise: by 1e-4 in 7 of 40 starts on a Xeon
        self.untouched = base_logits(loaded.model)  # before any adapter: what a receipt proves the base row by
        self.adapters = dict(adapters)
        if self.adapters:
            self.model = attach(loaded.model, list(self.adapters.values())).to(self.device)
        self.decoder = decoder_of(loaded.model)
        self.stack_of = lru_cache(8)(lambda names: stack(self.model, names))
        self.receipts: dict[str, Receipt] = {}
        for name, files in self.adapters.items():
            self.receipts[name] = receipt(self, files, self.untouched)
            self.receipts[name].check()

    @property
    def base_model(self) -> Any:
        """transformers' model, whether adapters are on it or not."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def put_on(self, files: AdapterFiles) -> None:
        """Attach an adapter, prove it, and only then publish it. Raises BadAdapter; the model is then as it was."""
        self.model = attach(self.model, [files]).to(self.device)
        try:
            found = receipt(self, files, self.untouched)
            found.check()
        except Exception:
            self.remove(files)
            raise
        self.receipts[files.name], self.adapters[files.name] = found, files

    def take_off(self, name: str) -> None:
        """Undo `put_on`."""
        self.remove(self.adapters.pop(name))
        del self.receipts[name]

    def remove(self, files: AdapterFiles) -> None:
        """Nothing of this adapter stays on the model."""
        others = [key for key in self.model.peft_config if key != files.key]
        if not others:
            self.model = self.model.unload()
        elif files.key in self.model.peft_config:
            self.model.delete_adapter(files.key)
            self.model.set_adapter(others[0], inference_mode=True)
        self.stack_of.cache_clear()

    def move(self, device: str) -> None:
        """Bring the weights to another device."""
        self.device, self.model = device, self.model.to(device)
        self.reread()

    def reread(self) -> None:
        """Take the weights as they are now: after a move, or in a fork."""
        self.decoder = decoder_of(self.base_model)
        self.stack_of.cache_clear()

    @torch.inference_mode()
    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """(rows, longest, hidden) last hidden states of row i under variants[i]."""
        return self.decoder.read(*self.sequences(rows, variants))

    def sequences(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> tuple[Tensor, Gate | None]:
        """What is read of rows under these variants: (rows, longest) ids and the gate.

        Rows are padded on the right, which a causal model never looks at.
        """
        longest = max(map(len, rows))
        pad = self.tokens.end_id
        ids = torch.tensor([list(row) + [pad] * (longest - len(row)) for row in rows], device=self.device)
        return ids, gate_of(variants, self.stack_of)

    @torch.inference_mode()
    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32; give it few positions at once, the vocabulary is wide."""
        return self.decoder.logits(states)
