"""What it takes to look into an answer and over a corpus: python -m bench.analysis [--rounds 5] [--only map]

The map of an answer and its reading layer by layer, in seconds. Then texts under base and adapted model as
`python -m compare.differences` reads them, both in one forward, against two passes over the same texts: by the engine,
one model after the other, and by transformers with PEFT's adapter off and on. All take turns in one process; medians.
`--shape bloom-1b1`: a random base of that shape with an adapter of rank 8 on all linear layers, for a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from bench.engine import QUESTION, seconds
from bench.shared.random_base import random_pair
from bench.train import SHAPES
from compare.analysis.token_scores import positions
from compare.analysis.token_shift import whole_answer
from compare.corpus.texts import Corpus, Text
from compare.engine.answers import compare
from compare.engine.interface import BASE, GivenAnswer, Sampling, Variant
from compare.engine.local import LocalEngine
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

ROOT = Path(__file__).resolve().parent.parent
CORPUS = [ROOT / "assets" / "report" / "plain.txt", ROOT / "assets" / "hit_qa" / "heldout.jsonl"]
LAYERS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
ANSWER = 32  # tokens at most of the answer that is looked into


def looks(engine: LocalEngine, adapted: Variant) -> dict[str, Callable[[], object]]:
    """Into the adapted answer to a question."""
    *_, [column] = compare(engine, QUESTION, [adapted], Sampling(ANSWER))
    given = GivenAnswer(column.prompt_ids, whole_answer(column, engine.tokens.end_id), adapted)
    count = f"{len(given.prompt_ids)} + {len(given.answer_ids)} tokens"
    return {f"map of an answer, {count}": lambda: engine.layer_map(given),
            f"layer by layer, one token, {count}": lambda: engine.by_layer(given, [0])}


def together(engine: LocalEngine, texts: list[Text], adapted: Variant) -> None:
    for text in texts:
        engine.score(text.prompt_ids, [text.ids], BASE, adapted)


def apart(engine: LocalEngine, texts: list[Text], adapted: Variant) -> None:
    """The same figures, each model's pass by itself; what a pass leaves for the other is kept for one text at a time,
    which no two passes over a corpus could."""
    for text in texts:
        row, first = [[*text.prompt_ids, *text.ids]], len(text.prompt_ids) - 1
        states = [engine.states(row, [variant])[0, first:] for variant in (BASE, adapted)]
        list(positions(engine, engine.tokens, text.ids, *states))


def toggled(engine: LocalEngine, texts: list[Text]) -> None:
    """KL and both cross-entropies alone, by transformers' forward with PEFT's adapter off and on."""
    import torch

    model = engine.loaded.model
    for text in texts:
        ids = torch.tensor([[*text.prompt_ids, *text.ids]], device=model.device)
        logs = []
        for off in (True, False):
            with torch.inference_mode(), model.disable_adapter() if off else nullcontext():
                logs.append(model(input_ids=ids).logits[0].float().log_softmax(-1))
        (logs[1].exp() * (logs[1] - logs[0])).sum(-1).tolist()
        [log[:-1].gather(-1, ids[0, 1:, None]).tolist() for log in logs]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=["embedded", "bloom-1b1"], default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=150, help="of the corpus: the first lines and answers")
    parser.add_argument("--only", default="", help="what has this in its name, such as map or text")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base, adapters = (EMBEDDED_BASE, [EMBEDDED_ADAPTER]) if args.shape == "embedded" else random_pair(
            Path(folder), 1, LAYERS, vocab_size=250_880, initializer_range=0.05, **SHAPES[args.shape])
        engine = LocalEngine(base, adapters, args.device, args.dtype)
        adapted = Variant.of(next(iter(engine.adapters)))
        texts = list(islice(Corpus(CORPUS).texts(engine.tokens, engine.facts.window), args.texts))
        name = f"{len(texts)} texts, {sum(len(text.ids) for text in texts):,} tokens"
        calls = {**looks(engine, adapted), f"{name}: one forward": lambda: together(engine, texts, adapted),
                 f"{name}: two passes of the engine": lambda: apart(engine, texts, adapted),
                 f"{name}: two passes of transformers and PEFT": lambda: toggled(engine, texts)}
        calls = {row: call for row, call in calls.items() if args.only in row}
        for call in calls.values():
            call()  # first use loads kernels
        rounds = [{row: seconds(call) for row, call in calls.items()} for _ in range(args.rounds)]
        print(f"{args.shape}, {args.device}, {args.dtype}, {args.rounds} rounds\n\n| | seconds | all rounds |\n"
              "| --- | --- | --- |")
        median = {row: statistics.median(one[row] for one in rounds) for row in calls}
        for row, took in median.items():
            print(f"| {row} | {took:.3f} | {', '.join(f'{one[row]:.3f}' for one in rounds)} |")
        if first := median.get(f"{name}: one forward"):
            print("\n" + "; ".join(f"{row.partition(': ')[2]} / one forward: {took / first:.2f}"
                                   for row, took in median.items() if ": two" in row))


if __name__ == "__main__":
    main()
