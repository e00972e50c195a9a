"""One base with adapters on it: its weights, its forward, and the proof of each adapter. For one thread at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from compare.analysis.token_text import Tokens
from compare.engine.adapters import attach
from compare.engine.interface import Shape, Variant
from compare.engine.receipt import Receipt, base_logits, receipt
from compare.models.bloom import Bloom
from compare.models.lora_rows import gate_of, stack
from lens.adapter_dir import AdapterFiles
from lens.base import Base
from lens.errors import BadAdapter


class LoadedModel:
    """`model`: transformers' model, within a PeftModel while there are adapters; `bloom`: its forward by rows.

    `adapters` and `receipts`, by name, are of those that are on the model.
    """

    def __init__(self, base: str, loaded: Base, adapters: Mapping[str, AdapterFiles]):
        """Put adapters on a loaded base. Raises BadAdapter for one that does not fit or changes nothing."""
        self.base, self.base_name, self.device, self.dtype = base, loaded.name, loaded.device, loaded.dtype
        self.tokenizer, self.tokens = loaded.tokenizer, Tokens(loaded.tokenizer)
        config = loaded.model.config
        self.shape = Shape(config.vocab_size, config.hidden_size, config.n_layer, config.n_head)
        self.parameters: int = loaded.model.num_parameters()
        self.model: Any = loaded.model
        self.untouched = base_logits(loaded.model)  # before any adapter: what a receipt proves the base row by
        self.adapters = dict(adapters)
        if self.adapters:
            self.model = attach(loaded.model, list(self.adapters.values())).to(self.device)
        self.bloom = Bloom(loaded.model)
        self.stack_of = lru_cache(8)(lambda names: stack(self.model, names))
        self.receipts: dict[str, Receipt] = {}
        for name, files in self.adapters.items():
            self.receipts[name] = receipt(self, files, self.untouched)
            if self.receipts[name].problem and not self.receipts[name].changes_anything:
                raise BadAdapter(str(self.receipts[name].problem))

    @property
    def base_model(self) -> Any:
        """transformers' model, whether adapters are on it or not."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def move(self, device: str) -> None:
        """Bring the weights to another device."""
        self.device, self.model = device, self.model.to(device)
        self.reread()

    def reread(self) -> None:
        """Take the weights as they are now: after a move, or in a fork."""
        self.bloom = Bloom(self.base_model)
        self.stack_of.cache_clear()

    @torch.inference_mode()
    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """(rows, longest, hidden) last hidden states of row i under variants[i], in one forward.

        Rows are padded on the right, which a causal model never looks at.
        """
        longest = max(map(len, rows))
        pad = self.tokens.end_id
        ids = torch.tensor([list(row) + [pad] * (longest - len(row)) for row in rows], device=self.device)
        return self.bloom.read(ids, gate_of(variants, self.stack_of))

    @torch.inference_mode()
    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32; give it few positions at once, the vocabulary is wide."""
        return self.bloom.logits(states)
