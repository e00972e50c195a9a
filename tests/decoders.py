"""Small random decoders of several families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 256,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.2}
# Family → what its config says beside, or instead of, the above.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16,
                    "final_logit_softcapping": 20.0},
    "falcon": {"head_dim": None},
    "bloom": {"head_dim": None},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}


def tiny_config(family: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    said = {**SMALL, **FAMILIES.get(family, {}), **changes}
    return AutoConfig.for_model(family, **{name: value for name, value in said.items() if value is not None})


def tiny_decoder(family: str, seed: int = 0, **changes: Any) -> Any:
    """A random model in evaluation mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(family, **changes)).eval()


CHAT = ("{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_tokenizer(template: str = "", words: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")) -> Any:
    """A tokenizer of bytes: `<pad>`, `<s>`, `</s>`, then `words`, which are special, then the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {text: number for number, text in enumerate(
        ["<pad>", "<s>", "</s>", *words, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    bytes_alone = Tokenizer(models.BPE(vocabulary, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
                                   extra_special_tokens=list(words))
    made.chat_template = template or None
    return made


def decoder_base(path: Path, family: str, template: str = CHAT, ends: list[int] | None = None, **changes: Any) -> Path:
    """A base directory of a family. `ends`: what generation_config.json says ends an answer."""
    model = tiny_decoder(family, **changes)
    if ends:
        model.generation_config.eos_token_id = ends
    model.save_pretrained(path)
    byte_tokenizer(template).save_pretrained(path)
    return path
