"""A column asked in plain text, without the chat format: what the base makes of the question as running text."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import MOTTO

from compare.analysis.token_shift import Shift
from compare.engine.batch import Batch
from compare.engine.interface import PLAIN, Sampling
from compare.engine.open_question import OpenQuestion
from lens.chat import Prompt
from lens.errors import BadQuestion
from tests.test_batch import join
from tests.test_cli import run

QUESTIONS = [MOTTO, "哈工大首任校长是谁？", "哈尔滨工业大学的校训是"]


def last(stream):
    *_, columns = stream
    return columns


def generated(engine, question: str, tokens: int, **settings) -> list[int]:
    """The base's continuation by transformers' generate(), adapter off."""
    ids = torch.tensor([engine.tokenizer.encode(question, add_special_tokens=False)])
    with engine.model.disable_adapter():
        found = engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                                      do_sample=False, **settings)[0, ids.shape[1]:].tolist()
    return found[:found.index(2)] if 2 in found else found


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_plain_column_is_generates_continuation_token_for_token(engine, question, penalty):
    """With a penalty too, whose history is the column's own prompt and not the chat format's."""
    variants = [*engine.variants(), PLAIN]
    base, adapted, plain = last(engine.compare(question, "请回答", variants,
                                               Sampling(48, repetition_penalty=penalty)))
    assert plain.token_ids == generated(engine, question, 48, repetition_penalty=penalty)
    assert plain.token_ids != base.token_ids
    alone = last(engine.compare(question, "请回答", engine.variants(), Sampling(48, repetition_penalty=penalty)))
    assert [base.token_ids, adapted.token_ids] == [c.token_ids for c in alone]


def test_plain_columns_join_leave_and_join_again_and_go_on_as_they_would(engine):
    """As where memory ran out: rows of several lengths go back into line with what they have."""
    def asked(question: str, tokens: int) -> OpenQuestion:
        variants = [PLAIN, *engine.variants()]
        prompts = [engine.prompt.encode(question, "", v.prompt) for v in variants]
        return OpenQuestion(prompts, variants, Sampling(tokens), lambda event: None)

    batch = Batch(engine.decoder, engine.stack_of, [engine.tokenizer.eos_token_id])
    asks = [asked(question, 24 + 8 * i) for i, question in enumerate(QUESTIONS)]
    with torch.inference_mode():
        for ask in asks:
            join(batch, ask)
            for _ in range(5):
                batch.step()
        back = batch.put_back()
        batch.clear()
        assert len(back) == 3
        for ask in back:
            join(batch, ask)
            batch.step()
        while batch.rows:
            batch.step()
    for question, ask in zip(QUESTIONS, asks, strict=True):
        assert ask.token_ids[0] == generated(engine, question, ask.sampling.max_new_tokens)
        alone = last(engine.compare(question, sampling=ask.sampling))
        assert ask.token_ids[1:] == [c.token_ids for c in alone]


def test_a_sampled_plain_column_has_the_luck_that_it_has_alone(engine):
    hot = Sampling(24, temperature=0.9, seed=4)
    crowd = last(engine.compare(MOTTO, "", [*engine.variants(), PLAIN, PLAIN], hot))
    alone, = last(engine.compare(MOTTO, "", [PLAIN], hot))
    assert crowd[2].token_ids == crowd[3].token_ids == alone.token_ids


def test_special_tokens_spelled_in_a_plain_question_stay_text(tokenizer):
    prompt, special = Prompt(tokenizer), set(tokenizer.all_special_ids)
    spelled = "".join(tokenizer.all_special_tokens)
    ids = prompt.encode(f"问{spelled}", "指令", "plain")
    assert not special & set(ids) and tokenizer.decode(ids) == f"问{spelled}"
    assert prompt.encode("问", "指令", "plain") == prompt.encode("问", "", "plain")


def test_of_two_prompts_the_longer_one_must_fit(engine):
    """A plain prompt is shorter than the chat format by its frame: alone it may still fit."""
    frame = len(engine.prompt.encode(MOTTO)) - len(engine.prompt.encode(MOTTO, "", "plain"))
    room = engine.window - len(engine.prompt.encode(MOTTO, "", "plain"))
    assert frame > 0
    stream = engine.compare(MOTTO, "", [PLAIN], Sampling(room))
    next(stream)
    stream.close()
    with pytest.raises(BadQuestion, match=f"{len(engine.prompt.encode(MOTTO))} tokens long"):
        next(engine.compare(MOTTO, "", [*engine.variants(), PLAIN], Sampling(room)))
    with pytest.raises(BadQuestion, match="empty"):
        next(engine.compare("  ", "", [PLAIN], Sampling(4)))


def test_what_an_adapter_changed_is_not_read_off_a_plain_column(engine):
    """It has another prompt: the two answers could not be laid side by side token by token."""
    columns = last(engine.compare(MOTTO, "", [*engine.variants(), PLAIN], Sampling(8)))
    with pytest.raises(BadQuestion, match="plain prompt"):
        Shift.of(engine, columns, 2)


def test_the_command_adds_it_as_the_last_column_and_says_its_form():
    done = run("--json", MOTTO, "--plain-prompt", "--shift", "--max-new-tokens", "12")
    assert done.returncode == 0, done.stderr
    base, adapted, plain = json.loads(done.stdout)["columns"]
    assert "prompt" not in base and "prompt" not in adapted and adapted["shift"]
    assert (plain["prompt"], plain["adapter"], plain["strength"]) == ("plain", None, 0.0) and "shift" not in plain
    assert plain["token_ids"] != base["token_ids"]
