"""Every error and note has a stable code and a sentence in both languages, whose values are those it is raised with."""

from __future__ import annotations

import ast
import pickle
import re
import string
from pathlib import Path

import pytest

from lens import errors
from lens.errors import BadAdapter, LensError, sentences

ROOT = Path(__file__).resolve().parent.parent
KINDS = {name for name, kind in vars(errors).items()
         if isinstance(kind, type) and (issubclass(kind, LensError) or name == "Note")} | {"BadSpace"}
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")


def calls() -> list[tuple[str, ast.Call]]:
    """Where each error or note is made: a place and the call."""
    found = []
    for room in ("lens", "train", "compare", "deploy", "tools"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in KINDS and node.args:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


CALLS = calls()
LITERAL = [(place, call) for place, call in CALLS if isinstance(call.args[0], ast.Constant)]


def fields(sentence: str) -> set[str]:
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def test_there_are_many_and_nearly_all_say_their_code_where_they_are_made():
    assert len(LITERAL) > 150 and len(LITERAL) > 0.9 * len(CALLS)


def test_no_error_is_made_of_a_sentence():
    assert not [place for place, call in CALLS if isinstance(call.args[0], ast.JoinedStr)]
    assert not [place for place, call in LITERAL if not CODE.fullmatch(call.args[0].value)]


def test_every_code_has_both_sentences():
    assert not [place for place, call in LITERAL if call.args[0].value not in sentences()]
    assert not [code for code, said in sentences().items()
                if set(said) != {"en", "zh"} or not said["en"].strip() or not re.search("[\u4e00-\u9fff]", said["zh"])]
    assert not [code for code in sentences() if not CODE.fullmatch(code)]


def test_a_sentence_has_the_values_it_asks_for():
    wrong = []
    for place, call in LITERAL:
        given = {word.arg for word in call.keywords}
        if None in given or call.args[0].value not in sentences():  # **values
            continue
        for language, sentence in sentences()[call.args[0].value].items():
            if missing := fields(sentence) - given:
                wrong.append(f"{place} {call.args[0].value} {language}: {missing}")
    assert not wrong


def test_no_sentence_is_left_without_an_error():
    text = "\n".join(path.read_text(encoding="utf-8") for room in ("lens", "train", "compare", "deploy", "tools")
                     for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".jinja"))
    assert not [code for code in sentences() if f'"{code}"' not in text]


def test_an_error_says_itself_in_both_languages_and_travels():
    err = BadAdapter("adapter-leads-out", path="x", file="y")
    again = pickle.loads(pickle.dumps(err))
    assert (type(again), again.code, again.values, str(again)) == (BadAdapter, err.code, err.values, str(err))
    assert err.as_dict() == {"code": "adapter-leads-out", "message": str(err), "message_zh": err.zh}
    assert "x" in str(err) and "x" in err.zh and str(err) != err.zh


@pytest.mark.parametrize("kind", sorted(KINDS - {"Note", "BadSpace"}))
def test_the_tree_that_the_docstring_draws_is_the_tree(kind):
    assert re.search(rf" {kind}\s", errors.__doc__ or "")
