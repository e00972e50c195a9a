"""The architectures of transformers that are tried, and what a tiny one of each is made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Known:
    """An architecture of transformers (config.json's model_type), models that people know it by, and what a tiny one's
    config has to say. `case`: what of it is meant, where that is not all; `lora_on`: parameters that an adapter by PEFT
    is put on instead of what `train` would choose."""

    family: str
    models: str
    config: dict[str, Any] = field(default_factory=dict)
    case: str = ""
    lora_on: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"`{self.family}`" + (f", {self.case}" if self.case else "")


EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ARCHITECTURES = (
    Known("bloom", "BLOOM, BLOOMZ", {"head_dim": None}),
    Known("llama", "Llama 2 and 3, SmolLM2, TinyLlama, Yi, DeepSeek-R1-Distill", {"tie_word_embeddings": True}),
    Known("internlm3", "InternLM 3"),
    Known("mistral", "Mistral, Zephyr", {"sliding_window": 24}),
    Known("qwen2", "Qwen2, Qwen2.5"),
    Known("qwen3", "Qwen3"),
    Known("gemma", "Gemma", {"head_dim": 16}),
    Known("gemma2", "Gemma 2", {"sliding_window": 24, "final_logit_softcapping": 20.0}),
    Known("gemma3_text", "Gemma 3 270M and 1B", {"sliding_window": 24}),
    Known("gpt2", "GPT-2, DistilGPT-2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    Known("gpt_neox", "Pythia, GPT-NeoX"),
    Known("gptj", "GPT-J", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8}),
    Known("opt", "OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    Known("phi", "Phi 1, 1.5 and 2"),
    Known("phi3", "Phi 3 and 4"),
    Known("falcon", "Falcon with rotary positions", {"head_dim": None}),
    Known("stablelm", "StableLM"),
    Known("olmo", "OLMo"),
    Known("olmo2", "OLMo 2"),
    Known("glm", "GLM-4 9B", {"head_dim": 8}),
    Known("cohere", "Command R"),
    Known("granite", "Granite 3"),
    Known("smollm3", "SmolLM3"),
    Known("starcoder2", "StarCoder2"),
    Known("mixtral", "Mixtral", EXPERTS, "LoRA on attention"),
    Known("mixtral", "Mixtral", EXPERTS, "LoRA on experts", ("mlp.experts.gate_up_proj",)),
    Known("falcon", "Falcon-RW", {"head_dim": None, "alibi": True}, "with ALiBi"),
    Known("mamba", "Mamba"),
    Known("recurrent_gemma", "RecurrentGemma", {"lru_width": 32, "attention_window_size": 16}),
    Known("t5", "T5, Flan-T5", {"d_model": 32, "d_kv": 8, "num_layers": 2, "num_heads": 4, "d_ff": 48}),
)
