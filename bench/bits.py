"""How well a base predicts Chinese text, in bits a character: python -m bench.bits [--base DIR] --corpus DIR

The text is the last 0.9% of each source of the cleaned corpus (`python -m tools.clean_corpus`), which pretraining holds
out, without any sentence that stands elsewhere. Windows of 256 tokens, each token predicted from those before it in its
window. One JSON object a source on stdout, and one of all together.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from lens.embedded import EMBEDDED_BASE

SHARE = 0.009  # of a source's characters
MOST = 6000  # characters of a source
WINDOW = 256  # tokens


def tail(path: Path) -> str:
    """The last SHARE of a .jsonl file's texts, at most MOST characters, one text a line."""
    text = "\n".join(json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines())
    return text[-min(MOST, int(len(text) * SHARE)):]


def nats(model, tokenizer, text: str) -> float:
    """Sum of -log p over the text's tokens, in nats; the first of a window is predicted from `</s>`."""
    import torch
    import torch.nn.functional as F

    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for at in range(0, len(ids), WINDOW - 1):
        window = torch.tensor([[tokenizer.eos_token_id, *ids[at:at + WINDOW - 1]]])
        with torch.inference_mode():
            logits = model(input_ids=window).logits[0, :-1].float()
        total += F.cross_entropy(logits, window[0, 1:], reduction="sum").item()
    return total


def measure(base: str, corpus: Path) -> Iterator[dict]:
    """{"source", "characters", "bits"} a source, then all together, each source as large as it is."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    bits = characters = 0.0
    for path in sorted(corpus.glob("*.jsonl")):
        text = tail(path)
        found = nats(model, tokenizer, text) / math.log(2)
        bits, characters = bits + found, characters + len(text)
        yield {"source": path.stem, "characters": len(text), "bits": round(found / len(text), 3)}
    yield {"source": "all", "characters": int(characters), "bits": round(bits / characters, 3)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that tools.clean_corpus wrote")
    args = parser.parse_args()
    for row in measure(args.base, args.corpus):
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
