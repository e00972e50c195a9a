"""docs/models.md says what runs: its rows are the architectures that are tried, by the path that the code takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.models.architectures import ARCHITECTURES, Known
from bench.models.table import all_of, line, loaded, page, path_of
from compare.models.decoders import decoder_of
from compare.models.rotary import ROTARY
from lens.errors import BadBase
from tests.decoders import tiny_decoder

TABLE = Path(__file__).resolve().parent.parent / "docs" / "models.md"


def rows() -> dict[str, list[str]]:
    """Architecture → its row's other cells."""
    lines = [text for text in TABLE.read_text(encoding="utf-8").splitlines() if text.startswith("| `")]
    cells = [[cell.strip() for cell in text.strip("|").split(" | ")] for text in lines]
    return {first: others for first, *others in cells}


def test_the_rows_are_those_that_are_tried():
    assert list(rows()) == [known.name for known in ARCHITECTURES] and len(ARCHITECTURES) >= 20
    assert all(row[0] == known.models for row, known in zip(rows().values(), ARCHITECTURES, strict=True))


def test_every_family_that_is_written_out_is_fast_and_no_other():
    assert {known.family for known in ARCHITECTURES if rows()[known.name][1] == "fast"} == {"bloom", *ROTARY}


@pytest.mark.parametrize("known", ARCHITECTURES, ids=lambda known: known.name.replace("`", ""))
def test_the_path_is_the_one_that_the_code_takes(known):
    path, exact, trains, merges, why = rows()[known.name][1:]
    if path == "refused":
        assert why and exact == "–"
        if known.family != "t5" and not known.lora_on:  # no causal LM; and a base that is taken, without that adapter
            with pytest.raises(BadBase):
                decoder_of(tiny_decoder(known.family, **known.config))
    else:
        assert path == path_of(decoder_of(tiny_decoder(known.family, **known.config)))
        assert exact == trains == merges == "yes" and not why


def test_a_refusal_is_told_by_its_sentence_without_a_path_of_this_machine(tmp_path):
    found = loaded(Known("t5", "T5", {"d_model": 32}), tmp_path)
    assert found.path == "refused" and "'t5'" in found.why and str(tmp_path) not in line(found)


@pytest.mark.slow
def test_the_table_is_what_comes_out():
    assert page(all_of()) == TABLE.read_text(encoding="utf-8")
