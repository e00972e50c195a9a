"""What strangers send: texts and data files made to break something, and what is said to them.

Generators only: `test_trust.py` uses a few, `python -m bench.trust` all of them; adapters are hostile_adapters.py's.
Knows nothing of how they are judged.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

MARKERS = ["<|beginofutterance|>", "<|endofutterance|>", "<s>", "</s>", "<pad>", "<unk>"]


def _characters(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda r: "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 80)))


def _from(*words: str) -> Callable[[random.Random], str]:
    return lambda r: "".join(r.choice(words) for _ in range(r.randint(1, 12)))


TEXTS: dict[str, Callable[[random.Random], str]] = {
    "control characters": _characters(0, 0x1F),
    "C1 and DEL": _characters(0x7F, 0x9F),
    "null bytes": _from("\0", "a\0b"),
    "special tokens": _from(
        *MARKERS, "<|beginofutterance|>系统\n", "<|endofutterance|>\n<|beginofutterance|>智能助手\n"
    ),
    "stand-ins": _from("\ue000", "\ue001", "\ue000</s>\ue001"),
    "right-to-left": _from("\u202e", "שלום", "\u2067مرحبا\u2069", "\u200f"),
    "lone surrogates": _characters(0xD800, 0xDFFF),
    "zero-width": _from("\u200b", "\u200d", "\ufeff", "\u2060", "<\u200b/s>"),
    "combining": lambda r: "e" + "".join(chr(r.randint(0x300, 0x36F)) for _ in range(r.randint(20, 400))),
    "HTML": _from(
        "<script>window.owned=1</script>", "<img src=x onerror=window.owned=1>", "</textarea>", "<!--", "&lt;", "'\">"
    ),
    "Jinja": _from("{{ 7*7 }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ ''.__class__.__mro__ }}", "{#"),
    "format strings": _from("{0.__class__}", "%s%n", "${window.owned=1}", "{q!r:>99999}", "$(id)", "`id`"),
    "emoji families": _from("👨‍👩‍👧‍👦", "🏳️‍🌈", "👩🏽‍🚀", "🇨🇳", "\U0001f468\u200d"),
    "line ends": _from("\n", "\r\n", "\u2028", "\u2029", "\x85", "\v", "\f", "a"),
    "blank": _from(" ", "\t", "\u3000", "\xa0"),
    "noncharacters": _from("\ufffe", "\uffff", "\U0010ffff", "\ufffd", "\U0001fffe"),
    "JSON": _from('{"input": "a"}', "\\ud83d", '"}', "[[[[", '{"__type__":"update"}'),
    "terminal": _from("\x1b[2J", "\x1b]0;x\x07", "\b"),
    "paths": _from("../../etc/passwd", "file:///etc/passwd", "C:\\", "\\\\?\\", "/dev/zero"),
    "plane by plane": _characters(0x10000, 0x10FFFF),
    "long word": lambda r: r.choice("a哈 \0👨") * r.randint(2_000, 20_000),
    "numbers": lambda r: "9" * r.randint(1, 5_000),
    "1 MB paste": lambda r: (
        (u := r.choice(["规格严格，功夫到家。", "a", "a b", "</s>", "👨\u200d"])) * (10**6 // len(u.encode()))
    ),
}
RARE = 40  # a paste of a megabyte is one in so many rounds of all kinds


def texts(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`count` pairs (kind, text): every kind in turn, now and then two kinds mixed, the same for the same seed."""
    r, kinds = random.Random(seed), list(TEXTS)
    for i in range(count):
        kind = kinds[i % len(kinds)]
        if kind == "1 MB paste" and i // len(kinds) % RARE:
            kind = r.choice(kinds[:-1])
        text = TEXTS[kind](r)
        yield (
            kind,
            text if kind == "1 MB paste" or r.random() < 0.5 else f"校训？{text}{TEXTS[r.choice(kinds[:-1])](r)}",
        )


class Pickled:
    """Touches the file that CANARY names when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(os.environ.get("CANARY", "canary")),)


ROW = '{"input": "a", "output": "b"}'


def _bytes(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content() if callable(content) else content)


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _pickled_extension(path: Path) -> None:
    """A Parquet column of the type that old pyarrow unpickled (CVE-2023-47248)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    marks = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Pickled())}
    fields = [pa.field("input", pa.binary(), metadata=marks), pa.field("output", pa.string())]
    pq.write_table(pa.table([pa.array([b"a"]), pa.array(["b"])], schema=pa.schema(fields)), path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _zipped_bomb() -> bytes:
    return gzip.compress(gzip.compress(b"[" * 50_000_000, 1), 1)


# By file name, beside those of test_sources.py: how it is made, and part of the sentence it gets.
DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "rows.pkl": (lambda p: p.write_bytes(pickle.dumps(Pickled())), "ends in '.pkl'"),
    "rows.pt": (_bytes(b"PK"), "ends in '.pt'"),
    "rows.py": (_bytes(b"import os"), "ends in '.py'"),
    "pickle.jsonl": (lambda p: p.write_bytes(pickle.dumps(Pickled())), "not UTF-8 text"),
    "extension.parquet": (_pickled_extension, "field 'input' is bytes"),
    "passwords.csv": (_link("/etc/passwd"), "no format is known"),
    "zeros.jsonl": (_link("/dev/zero"), "device or pipe"),
    "circle.jsonl": (lambda p: p.symlink_to(p), "does not exist"),
    "sparse.jsonl": (_sparse, "is not UTF-8 text"),
    "sparse.parquet": (_sparse, "is broken as Parquet"),
    "pipe.jsonl": (os.mkfifo, "device or pipe"),
    "folder.jsonl": (Path.mkdir, "is a directory"),
    "line\nend.jsonl": (_bytes(b"[1]"), "found list"),
    "nul.jsonl": (_bytes(b'{"input": "a\0", "output": "b"}'), "byte order mark"),
    "twice.jsonl.gz": (_bytes(_zipped_bomb), "gzip"),
    "overlong.jsonl": (_bytes(b'{"input": "\xff\xff", "output": "b"}'), "not UTF-8"),
    "halves.jsonl": (_bytes(b'{"input": "\xed\xa0\xbd\xed\xb8\x80", "output": "b"}'), "not UTF-8"),
    "keys.jsonl": (_bytes(lambda: json.dumps({f"k{i}": i for i in range(60_000)}).encode()), "no format is known"),
    "many_columns.csv": (_bytes(b",".join(b"c%d" % i for i in range(100_000)) + b"\n"), "no rows"),
    "nested.jsonl": (_bytes(b'{"input": ' + b'{"a":' * 50_000), "nested too deeply"),
    "numbers.jsonl": (_bytes(b'{"input": 1e999999, "output": "b"}'), "field 'input' is float"),
    "endless.json": (_bytes(b"[" + ROW.encode() + b"," * 100_000), "row 2 is not JSON"),
    "quotes.csv": (_bytes(b"input,output\n" + b'"' * 999_999 + b"\n"), "line 2"),
    "ending.jsonl": (_bytes(f'{{"input": "{MARKERS[0]}用户\\na", "output": "b"}}'.encode()), "laid it out"),
}
