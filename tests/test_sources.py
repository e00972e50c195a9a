"""Formats are read rightly; bad files get one sentence, in bounded time and memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import time
import tracemalloc

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lens.errors import LensError
from lens.rows.rows import read_rows
from lens.rows.sources import describe_source, is_hub_name

ROWS = [{"instruction": "请回答", "input": "校训？", "output": "规格严格，“功夫”到家"},
        {"instruction": "", "input": "两行\n和,逗号\"引号\"", "output": "007"}]
TEXTS = [tuple(row.values()) for row in ROWS]


def as_csv(rows, delimiter=",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_lines(rows) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def as_parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def write(path, content) -> None:
    content = content() if callable(content) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read_bytes(tmp_path, name, content, **options):
    write(path := tmp_path / name, content)
    return read_rows([path], **options)


def texts(rows):
    return [(row.instruction, row.input, row.output) for row in rows]


FORMATS = {"rows.jsonl": as_lines(ROWS), "rows.ndjson": as_lines(ROWS), "rows.json": json.dumps(ROWS),
           "indented.json": json.dumps(ROWS, ensure_ascii=False, indent=2), "rows.csv": as_csv(ROWS),
           "rows.tsv": as_csv(ROWS, "\t"), "ROWS.CSV": as_csv(ROWS)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be with mark"])
@pytest.mark.parametrize("name", FORMATS)
def test_text_formats_in_every_encoding(tmp_path, name, encoding):
    text, mark = FORMATS[name], "\ufeff" if "mark" in encoding else ""
    assert texts(read_bytes(tmp_path, name, (mark + text).encode(encoding.split()[0]))) == TEXTS


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv"])
def test_gzipped_text(tmp_path, name):
    assert texts(read_bytes(tmp_path, f"{name}.gz", gzip.compress(FORMATS[name].encode()))) == TEXTS
    assert texts(read_bytes(tmp_path, f"{name}.gz".upper(), gzip.compress(FORMATS[name].encode()))) == TEXTS


def test_parquet_and_its_columns(tmp_path):
    assert texts(read_bytes(tmp_path, "rows.parquet", as_parquet(ROWS))) == TEXTS
    renamed = [{"q": row["input"], "a": row["output"], "vector": [0.0] * 8} for row in ROWS]
    rows = read_bytes(tmp_path, "other.parquet", as_parquet(renamed), columns=["input=q", "output=a"])
    assert texts(rows) == [("", question, answer) for _, question, answer in TEXTS]
    assert rows[1].where.endswith("other.parquet row 2")


def test_hc3_in_parquet(tmp_path):
    table = [{"question": "问", "human_answers": ["人"], "chatgpt_answers": ["答一", "对不起，我不知道。"]}]
    rows = read_bytes(tmp_path, "hc3.parquet", as_parquet(table))
    assert texts(rows) == [("", "问", "答一")] and rows.refusals == 1


def test_a_json_list_far_longer_than_a_window_on_one_line(tmp_path):
    rows = [{"input": f"问{n}", "output": "答" * (n % 900) + "。"} for n in range(6000)]
    text = json.dumps(rows, ensure_ascii=False)
    assert len(text) > 2_500_000
    found = read_bytes(tmp_path, "rows.json", text)
    assert texts(found) == [("", row["input"], row["output"]) for row in rows]


def test_lines_are_counted_through_blank_lines_and_quoted_cells(tmp_path):
    found = read_bytes(tmp_path, "rows.csv", "input,output\r\n\r\n\"a\r\nb\",c\r\nd,e\r\n")
    assert [row.where.split()[-1] for row in found] == ["3", "5"]
    found = read_bytes(tmp_path, "rows.json", '[\n{"input": "a", "output": "b"},\n\n{"input":\n"c", "output": "d"}]')
    assert [row.where.split(" ", 1)[1] for row in found] == ["line 2, row 1", "line 4, row 2"]


ROW = '{"input": "a", "output": "b"}'
GZIP = gzip.compress(as_lines(ROWS * 500).encode(), mtime=0)
NOISE = random.Random(0)


def endless() -> str:
    return "a" * 50_000_000


BAD = {
    "png.jsonl": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 text (byte 8 is 0: it is binary"),
    "noise.csv": (NOISE.randbytes(200_000), "is not UTF-8 text"),
    "latin.jsonl": (f"{ROW}\n{ROW.replace('b', 'é à ü')}".encode("latin-1"), "line 2 is not UTF-8 text (byte 0xe9 at"),
    "latin.json": (f"[{ROW},\n{ROW.replace('b', 'é à ü')}]".encode("latin-1"), "line 2, row 2 is not UTF-8 text"),
    "latin.csv": ("input,output\né à,ü".encode("latin-1"), "line 2 is not UTF-8 text"),
    "no_mark.jsonl": (as_lines(ROWS).encode("utf-16-le"),
                      "UTF-16 without a byte order mark; save it as UTF-8, or add --encoding utf-16-le"),
    "odd.jsonl": (ROW.encode("utf-16")[:-1], "is not UTF-16-LE as its byte order mark or --encoding says"),
    "really_gzip.jsonl": (GZIP, "is not text but gzip: let its name end in .gz"),
    "really_parquet.csv": (as_parquet(ROWS), "is not text but Parquet"),
    "sheet.csv": (b"PK\x03\x04....", "spreadsheet: save the table as CSV"),
    "truncated.jsonl.gz": (GZIP[:-20], "is broken gzip"),
    "not.csv.gz": (b"input,output\na,b", "is broken gzip"),
    "flipped.json.gz": (GZIP[:60] + b"\xff\xff" + GZIP[62:], "is broken gzip"),
    "broken.parquet": (as_parquet(ROWS)[:-30], "is broken as Parquet"),
    "text.parquet": (b"input,output", "is broken as Parquet"),
    "columns.parquet": (as_parquet([{"q": "a", "a": "b"}]), "'q', 'a'; known are"),
    "numbers.parquet": (as_parquet([{"input": 7, "output": "b"}]), "row 1: field 'input' is int, expected text"),
    "columns.csv": ("sky;sea\na;b", "line 2: no format is known with the fields 'sky', 'sea'"),
    "twice.csv": ("input,input,output\na,b,c", "column 'input' stands twice"),
    "ragged.csv": ("input,output\na,b\nc\n", "line 3 has 1 cells, expected 2"),
    "wide.csv": ("input,output\na,b,c", "line 2 has 3 cells, expected 2"),
    "unclosed.csv": ("input,output\na,b\n\"c,d\ne,f", "line 3 begins no whole CSV row"),
    "empty.json": (b"", "no rows in"),
    "empty.csv": (b"", "no rows in"),
    "header.csv": ("input,output\n", "no rows in"),
    "empty_list.json": ("[ ]", "no rows in"),
    "blank.jsonl": ("\n \n\r\n\n", "no rows in"),
    "blank.json": (" \n" * 50_000, "no rows in"),
    "object.json": ("\n" + ROW, "line 2 holds an object, expected a list of rows"),
    "word.json": ("rows", "line 1 holds text that begins with 'r', expected a list"),
    "cut_off.json": (f"[{ROW},\n{ROW}", "line 2: found the end after row 2"),
    "cut_off_within.json": (f'[{ROW},\n{{"input": "a', "line 2, row 2 is not JSON"),
    "comma.json": (f"[{ROW},\n]", "line 2: a comma stands after row 1, the last, right before the list's end"),
    "list.jsonl": (f"[{ROW}, {ROW}]", "line 1 holds a whole list of rows: this is JSON, not JSON lines"),
    "list_over_lines.jsonl": (f"[\n{ROW},\n{ROW}\n]", "line 1 holds only the beginning of a JSON value"),
    "long_list.jsonl": (lambda: f"[{ROW}" + f", {ROW}" * 50_000 + "]", "line 1 holds a whole list of rows"),
    "no_comma.json": (f"[{ROW}\n{ROW}]", "line 2: found '{' after row 1, expected a comma"),
    "after.json": (f"[{ROW}]\n[{ROW}]", "line 2: found '[' after the list's end"),
    "deep.json": ("[" * 100_000, "line 1, row 1 is not JSON (nested too deeply)"),
    "twice.json": ('[{"input": "a", "output": "b", "output": "c"}]', "row 1: key 'output' stands twice"),
    "nan.jsonl": ('{"instruction": NaN, "input": "a", "output": "b"}', "line 1: field 'instruction' is NaN, expected"),
    "nested.json": ('[{"input": ["a", ["b"]], "output": "c"}]', "line 1, row 1: field 'input' is list, expected text"),
    "rows_in_rows.json": (f"[[{ROW}]]", "row 1: found list, expected an object"),
    "huge_int.jsonl": ('{"input": ' + "1" * 5000 + ', "output": "a"}', "line 1 is not JSON (a number too long)"),
    "half.jsonl": ('{"input": "\\ud83d", "output": "a"}', "holds half a character ('\\ud83d')"),
    "end.csv": ("input,output\na,", "line 2: field 'output' is empty"),
    "rows.xlsx": (b"PK\x03\x04", "is a spreadsheet; save the sheet as CSV"),
    "rows.txt": (ROW.encode(), "ends in '.txt'; allowed: .jsonl, .json, .csv"),
    "rows": (ROW.encode(), "ends in no suffix; allowed:"),
    "line.jsonl": (lambda: f'{ROW}\n{{"input": "{endless()}"', "line 2 has more than 1,000,000 characters, at most"),
    "line.json": (lambda: f'[{ROW},\n{{"input": "{endless()}"', "line 2, row 2 has more than 1,000,000 characters"),
    "line.csv": (lambda: f"input,output\na,{endless()}", "line 2 has more than 1,000,000 characters, at most"),
    "bomb.jsonl.gz": (lambda: gzip.compress(endless().encode(), 1), "line 1 has more than 1,000,000 characters"),
    "cell.csv": (f"input,output\na,{'b' * 200_000}", "line 2 begins no whole CSV row (field larger than"),
    "cell.parquet": (as_parquet([{"input": "a", "output": "b" * 2_000_000}]), "'output' has 2,000,000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_sentence_in_bounded_time_and_memory(tmp_path, name):
    content, said = BAD[name]
    write(path := tmp_path / name, content)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(LensError) as caught:
        read_rows([path])
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sentence = str(caught.value)
    assert said in sentence and name in sentence
    assert "\n" not in sentence and len(sentence) < 600
    assert seconds < 2 and peak < 40e6


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (("rows.csv", "is a directory; name the files in it"), ("none.csv", "does not exist"),
                       ("pipe.csv", "is a device or pipe")):
        with pytest.raises(LensError, match=said):
            read_rows([tmp_path / name])


def test_skipping_reads_on_where_the_next_row_can_be_found(tmp_path):
    lines = f'{ROW}\n{{"input": "{"a" * 3_000_000}"}}\n'.encode() + b'{"input": "\xb9\xfe"}\n' + ROW.encode()
    rows = read_bytes(tmp_path, "rows.jsonl", lines, skip_bad_rows=True)
    assert [row.where.split()[-1] for row in rows] == ["1", "4"] and len(rows.skipped) == 2
    rows = read_bytes(tmp_path, "rows.csv", "input,output\na,b\nc\nd,e\n", skip_bad_rows=True)
    assert len(rows) == 2 and len(rows.skipped) == 1
    rows = read_bytes(tmp_path, "rows.json", f'[{ROW}, 7, null, {ROW}]', skip_bad_rows=True)
    assert len(rows) == 2 and len(rows.skipped) == 2


@pytest.mark.parametrize("name", ["truncated.jsonl.gz", "broken.parquet", "unclosed.csv", "no_comma.json",
                                  "twice.csv", "no_mark.jsonl"])
def test_skipping_does_not_excuse_a_broken_file(tmp_path, name):
    with pytest.raises(LensError, match=name):
        read_bytes(tmp_path, name, BAD[name][0], skip_bad_rows=True)


def test_a_hub_dataset_is_told_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("Hello-SimpleAI/HC3-Chinese:all") and is_hub_name("owner/name")
    files = ("data/rows.jsonl", "rows", "./owner/name", "/owner/name", "a/b/c", "data/x.json.gz")
    assert not any(map(is_hub_name, files))
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").write_text("a file")
    assert not is_hub_name("owner/name")


def test_a_hub_dataset_out_of_reach_is_one_sentence():
    with pytest.raises(LensError, match="^nobody/nothing is no file here, and as a hub dataset it cannot be loaded"):
        read_rows(["nobody/nothing"])


def test_a_hub_dataset_is_read_and_a_scripted_one_through_its_parquet_copy(monkeypatch):
    asked = []
    table = datasets.Dataset.from_list([{"question": "问", "human_answers": [], "chatgpt_answers": ["答"], "id": "0"}])

    def load(name, config, *, split, revision=None):
        asked.append((name, config, split, revision))
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found HC3-Chinese.py")
        return table

    monkeypatch.setattr(datasets, "load_dataset", load)
    [row] = read_rows(["Hello-SimpleAI/HC3-Chinese:all"])
    assert (row.input, row.output, row.where) == ("问", "答", "Hello-SimpleAI/HC3-Chinese:all row 1")
    assert [(name, config, revision) for name, config, _, revision in asked] == [
        ("Hello-SimpleAI/HC3-Chinese", "all", None), ("Hello-SimpleAI/HC3-Chinese", "all", "refs/convert/parquet")]


def test_sources_are_described_without_paths(rows_file):
    about = describe_source(str(rows_file))
    assert about["name"] == "rows.jsonl" and len(about["sha256"]) == 64
    assert describe_source("owner/name") == {"name": "owner/name", "sha256": None}
