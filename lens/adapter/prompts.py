"""An adapter's own tokenizer and chat template, where it brings them: never used, only compared with the base's.

Every column's prompt comes from the base's. What an adapter brings may have been made elsewhere to take for ever (a
template that loops, a pattern that backtracks) or to name code: so it is read in a child process, which has limits of
time and memory, and asked for prompt ids alone. Files that are the base's own, byte for byte, need no child.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.adapter.find import PROMPTS
from lens.errors import BadAdapter, LensError, Note
from lens.processes import limit

if TYPE_CHECKING:  # it imports this module
    from lens.adapter.directory import AdapterFiles

TEMPLATE = PROMPTS[2]
LARGEST = dict(zip(PROMPTS, (64 << 20, 1 << 20, 1 << 20), strict=True))  # bytes
SECONDS, MEMORY = 20, 16 << 30  # of processor time, and bytes of address space, that a child may take
PATIENCE = 180  # seconds of wall time, on a busy machine
LINE_END = re.compile(r"\r\n?|\n")  # as Jinja reads a template
PROBES = [("哈尔滨工业大学的校训是什么？", "请回答下面的问题"), ("校训", ""),
          ("When was it founded, in 1920?", "Answer."), ("a" * 50, "。"),
          ("  两行\n和\t制表符 </s><|endofutterance|>", "系统\n"),
          ("👩🏽‍🚀 Ünïcode, 1.5 × 10⁻³; {{ x }}", " ")]


def brought(path: Path) -> list[str]:
    """The names of those files that an adapter directory brings. Raises BadAdapter for a huge one."""
    found = [name for name in LARGEST if (path / name).is_file()]
    for name in found:
        if (size := (path / name).stat().st_size) > LARGEST[name]:
            raise BadAdapter("adapter-file-huge", path=path, file=name, size=size, largest=LARGEST[name])
    return found


def check_prompts(base: str, adapters: Iterable[AdapterFiles], template: str = "") -> list[Note]:
    """Raises BadAdapter for an adapter whose own tokenizer and template would give another prompt than the base's.

    Where they differ and give the same ids, a note says that the base's are used. `template`: a file that is used in
    place of the base's own.
    """
    notes: list[Note] = []
    judged: dict[str, LensError | None] = {}
    for files in adapters:
        path = files.path
        used = {TEMPLATE: Path(template)} if template else {}
        own = [name for name in brought(path) if not same_file(path / name, used.get(name, Path(base) / name))]
        if not own:
            continue
        alike = hashlib.sha256(b"".join((path / name).read_bytes() for name in own)).hexdigest()
        if alike not in judged:
            judged[alike] = difference(base, path, template)
        if reason := judged[alike]:
            raise BadAdapter("adapter-other-prompts", path=path, made_for=files.settings.made_for, base=base,
                             files=", ".join(own), reason=reason)
        notes.append(Note("adapter-own-prompts", path=path, files=", ".join(own)))
    return notes


def check_recorded(base: str, adapters: Iterable[AdapterFiles], template: str = "") -> list[Note]:
    """Of adapters that bring no template: were they trained by another than the base's, as `training.json` says?"""
    known = [files for files in adapters if files.template_sha256 and not (files.path / TEMPLATE).is_file()]
    if not known:
        return []
    from lens.base.loading import load_tokenizer

    now = hashlib.sha256(load_tokenizer(base, template).chat_template.encode()).hexdigest()
    return [Note("adapter-other-template", path=files.path, made_for=files.settings.made_for, base=base, now=now[:12],
                 trained=files.template_sha256[:12]) for files in known if files.template_sha256 != now]


def same_file(one: Path, two: Path) -> bool:
    return two.is_file() and one.stat().st_size == two.stat().st_size and one.read_bytes() == two.read_bytes()


def difference(base: str, path: Path, template: str = "") -> LensError | None:
    """What is another in the adapter's prompts, found by a child process; None where nothing is."""
    home = Path(__file__).resolve().parents[2]
    where = str(Path(base).resolve()) if Path(base).is_dir() else base
    used = str(Path(template).resolve()) if template else ""
    try:
        child = subprocess.run([sys.executable, "-m", "lens.adapter.prompts", where, str(path.resolve()), used],
                               cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
                               env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"})
    except subprocess.TimeoutExpired:
        return LensError("prompts-slow", seconds=PATIENCE)
    if child.returncode < 0:
        return LensError("prompts-beyond-limits", seconds=SECONDS, gigabytes=MEMORY >> 30)
    if child.returncode:
        said = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        return LensError("prompts-unreadable", reason=said[:160])
    found = json.loads(child.stdout.strip().splitlines()[-1])
    return LensError("template-differs" if "line" in found else "prompts-differ", **found) if found else None


def first_difference(base: str, path: Path, template: str = "") -> dict[str, Any] | None:
    """The first question whose ids differ, how many each has, and where the templates differ; in this process."""
    from transformers import AutoTokenizer

    from lens.base.files import find_base
    from lens.base.loading import load_tokenizer, read_config
    from lens.chat import Prompt, use_template

    files = find_base(base, weights=False)
    ours = load_tokenizer(files, template, limits=False)
    with tempfile.TemporaryDirectory() as mixed:
        ours.save_pretrained(mixed)
        for name in brought(path):
            shutil.copy(path / name, mixed)
        theirs = AutoTokenizer.from_pretrained(mixed, trust_remote_code=False, local_files_only=True)
    use_template(theirs, read_config(files.path).get_text_config().vocab_size)
    one, two = Prompt(ours, limits=False), Prompt(theirs, limits=False)
    for question, instruction in PROBES:
        right, found = one.encode(question, instruction), two.encode(question, instruction)
        if right != found:
            return {"question": repr(question[:20]), "tokens": len(found), "base": len(right),
                    **differing_line(ours.chat_template, theirs.chat_template)}
    return None


def differing_line(base: str, adapter: str) -> dict[str, Any]:
    """The first line in which two templates differ, by its number, and what each has there; {} where none does."""
    for number, (one, two) in enumerate(zip_longest(LINE_END.split(base), LINE_END.split(adapter), fillvalue=""), 1):
        if one != two:
            at = max(0, len(os.path.commonprefix([one, two])) - 40)  # a template may be one line of thousands
            return {"line": number, "ours": repr(one[at:at + 80]), "theirs": repr(two[at:at + 80])}
    return {}


if __name__ == "__main__":
    limit(SECONDS, MEMORY)
    print(json.dumps(first_difference(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
