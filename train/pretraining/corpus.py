"""Plain text → token streams, and the windows that each step of pretraining reads from them.

A window is a pure function of (seed, step, row): no reader has a position, so a run resumed at any step, or split over
any number of processes, reads exactly what an unbroken one would have read. Never reads questions or the chat format.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lens.errors import BadRows

# How often a file's tokens are drawn, relative to its size. Encyclopedia and stories up; laws,
# logs and documentation down: a small model spends its few parameters on what it reads most.
WEIGHTS = {
    "wiki_zh_chunks": 3.0, "rc_wiki_contexts": 3.0, "cv_wiki_sentences_cc0": 2.0,
    "cmrc2017_2019_cft_stories": 2.0, "kdconv_dialogues": 1.5, "tatoeba_cmn_sentences_ccby": 1.0,
    "freecodecamp_news_zh": 0.5, "howtocook": 0.5, "d2l_zh": 0.1, "gaokao_bench": 0.3,
    "lctt_ccbysa_opensource_fedora": 0.2, "javaguide": 0.1, "laws_national_sample": 0.03,
    "oi_wiki": 0.1, "python_docs_zh_cc0": 0.1, "self_llm": 0.1, "smile_cc0_dialogues_sample": 0.25,
    "tensorflow_docs_zh": 0.1, "trpl_zh": 0.1,
}
END_MIN_TOKENS = 400  # only long documents end in </s>: a base that sees short ones end, ends too
PASSAGE_SENTENCES = 4
PROSE_ROUNDS = 32  # times every prose sentence appears in its stream, in fresh company each time
HELDOUT_SHARE = 0.01


@dataclass
class Stream:
    """One source's tokens, (n,) uint16 or uint32, and its share of all windows."""

    name: str
    tokens: np.ndarray
    heldout: np.ndarray
    share: float = 0.0


def lines_of(path: Path, option: str) -> Iterator[str]:
    """A text file's lines, line ends kept. Raises BadRows naming the option it was given by."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as err:
        raise BadRows("corpus-not-text", option=option, path=path, reason=err) from err


def documents(path: Path) -> Iterator[str]:
    """The texts of a `.jsonl` file (field `text`) or a `.txt` file (one document). Raises BadRows."""
    if path.suffix == ".txt":
        yield "".join(lines_of(path, "--corpus"))
        return
    for number, line in enumerate(lines_of(path, "--corpus"), 1):
        try:
            yield json.loads(line)["text"]
        except (json.JSONDecodeError, KeyError, TypeError) as err:
            raise BadRows("corpus-bad-line", option="--corpus", file=path.name, line=number, expected='{"text": …}',
                          reason=repr(err)) from err


def prose_passages(path: Path, seed: int) -> Iterator[str]:
    """Passages of a few unrelated sentences from rows with a `prose` list, in seeded orders.

    Unrelated on purpose: a sentence beside its own paraphrase can be copied instead of learnt.
    """
    sentences = []
    for number, line in enumerate(lines_of(path, "--prose"), 1):
        try:
            sentences += json.loads(line)["prose"]
        except (json.JSONDecodeError, KeyError, TypeError) as err:
            raise BadRows("corpus-bad-line", option="--prose", file=path.name, line=number,
                          expected='{"prose": [sentences]}', reason=repr(err)) from err
    rng = random.Random(seed)
    for _ in range(PROSE_ROUNDS):
        rng.shuffle(sentences)
        for i in range(0, len(sentences), PASSAGE_SENTENCES):
            yield "".join(sentences[i:i + PASSAGE_SENTENCES])


def encode(texts: Iterator[str], tokenizer, eos_id: int) -> np.ndarray:
    """One flat array of ids: long documents end in </s>, short ones in a line break."""
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    pieces: list[int] = []
    batch: list[str] = []

    def flush() -> None:
        for enc in tokenizer.encode_batch(batch, add_special_tokens=False):
            pieces.extend(enc.ids)
            pieces.extend([eos_id] if len(enc.ids) >= END_MIN_TOKENS else newline)
        batch.clear()

    for text in texts:
        batch.append(text)
        if len(batch) == 512:
            flush()
    flush()
    return np.array(pieces, dtype=np.uint16 if max(pieces, default=0) < 65536 else np.uint32)


def load_streams(corpus: Path, prose: Path | None, prose_share: float, tokenizer, eos_id: int,
                 window: int, seed: int, cache: Path) -> list[Stream]:
    """Encode every file of a folder once (cached) and give each its share of the windows.

    Raises BadRows where the folder holds too little text to read a window from, or none to hold out.
    """
    files = sorted(p for p in corpus.glob("*") if p.suffix in (".jsonl", ".txt")) if corpus.is_dir() else []
    if not files:
        raise BadRows("corpus-empty", corpus=corpus)
    if prose and not prose.is_file():
        raise BadRows("prose-missing", path=prose)
    cache.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.encode_special_tokens = True  # a text that spells a marker or </s> is text
    vocabulary = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()

    def cached(path: Path, texts: Iterator[str], salt: str = "") -> np.ndarray:
        key = hashlib.sha256(path.read_bytes() + f"plain {vocabulary} {salt}".encode()).hexdigest()[:16]
        kept = cache / f"{path.stem}-{key}.npy"
        if not kept.exists():
            part = kept.with_suffix(".part")
            with part.open("wb") as f:
                np.save(f, encode(texts, tokenizer, eos_id))
            part.replace(kept)
        return np.load(kept, mmap_mode="r")

    streams, mass = [], []
    for path in files:
        ids = cached(path, documents(path))
        cut = len(ids) - int(len(ids) * HELDOUT_SHARE)
        if cut > window:
            streams.append(Stream(path.stem, ids[:cut], ids[cut:]))
            mass.append(cut * WEIGHTS.get(path.stem, 1.0))
    if not streams:
        raise BadRows("corpus-too-short", corpus=corpus, window=window)
    if (longest := max(len(stream.heldout) for stream in streams)) <= window:
        raise BadRows("corpus-held-out-too-short", corpus=corpus, share=HELDOUT_SHARE, longest=longest, window=window)
    rest = 1.0 - (prose_share if prose else 0.0)
    for stream, weight in zip(streams, mass, strict=True):
        stream.share = rest * weight / sum(mass)
    if prose:
        ids = cached(prose, prose_passages(prose, seed), f"{seed} {PROSE_ROUNDS} {PASSAGE_SENTENCES}")
        streams.append(Stream("prose", ids, ids[:0], prose_share))
    return streams


def windows(streams: list[Stream], rows: range, step: int, length: int, seed: int,
            heldout: bool = False) -> np.ndarray:
    """(len(rows), length) int64 ids for these rows of this step."""
    pool = [(s.heldout if heldout else s.tokens, s.share) for s in streams]
    pool = [(ids, share) for ids, share in pool if len(ids) > length]
    shares = np.array([share for _, share in pool])
    out = np.empty((len(rows), length), dtype=np.int64)
    for i, row in enumerate(rows):
        rng = np.random.default_rng([seed, step, row, int(heldout)])
        ids = pool[rng.choice(len(pool), p=shares / shares.sum())][0]
        start = int(rng.integers(0, len(ids) - length))
        out[i] = ids[start:start + length]
    return out
