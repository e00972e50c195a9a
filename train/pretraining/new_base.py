"""A new small BLOOM with a tokenizer of BLOOM's kind, or one to train on from."""

from __future__ import annotations

from pathlib import Path

from lens.chat_template import MARKERS


def new_tokenizer(corpus: Path, s):
    """Byte-level BPE of BLOOM's kind with its special ids 0 to 3, and the two chat markers on top."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from train.pretraining.corpus import documents

    tok = Tokenizer(models.BPE())
    # Whole runs of Han: cut into pieces, a phrase would be other tokens wherever it stands.
    pattern = r"[\r\n]+|\p{Han}+|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    texts = (t for p in sorted(corpus.glob("*.jsonl")) for t in documents(p))
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=s.vocab_size, special_tokens=special, max_token_length=12, limit_alphabet=256,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
                                   pad_token="<pad>", padding_side="left", model_max_length=2048)
    fast.add_special_tokens({"extra_special_tokens": list(MARKERS)})
    return fast


def load(s):
    """(model, tokenizer), trained on from `--base` or made anew."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(s.seed)
    if s.base:
        from lens.base.loading import load_base

        base = load_base(s.base, "cpu", "float32")
        return base.model, base.tokenizer
    tokenizer = new_tokenizer(Path(s.corpus), s)
    config = BloomConfig(vocab_size=len(tokenizer) - 2 + 64, hidden_size=s.hidden_size, n_layer=s.n_layer,
                         n_head=s.n_head, hidden_dropout=0.0, attention_dropout=0.0,
                         bos_token_id=1, eos_token_id=2, pad_token_id=3)
    return BloomForCausalLM(config), tokenizer
