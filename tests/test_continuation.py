"""An answer that begins with given ids goes on as if it had chosen them; forced otherwise, it goes another way."""

from __future__ import annotations

import pytest
from conftest import MOTTO

from compare.engine.interface import Continuation, Sampling
from compare.questions import Question
from lens.errors import BadQuestion


def last(stream):
    *_, found = stream
    return found


def answer(engine, sampling: Sampling):
    """The adapted column."""
    return last(engine.compare(MOTTO, variants=engine.variants()[1:], sampling=sampling))[0]


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.2, "seed": 5}, {"repetition_penalty": 1.3}])
def test_forced_with_its_own_ids_an_answer_goes_on_as_before(engine, settings):
    whole = answer(engine, Sampling(40, **settings))
    assert len(whole.token_ids) > 4
    other = next(i for i in range(300, 400) if i != whole.token_ids[1])
    turned = answer(engine, Continuation(40, **settings, prefix_ids=(whole.token_ids[0], other)))
    assert turned.token_ids[:2] == [whole.token_ids[0], other]  # first: the ids do make a difference
    assert turned.token_ids[2:] != whole.token_ids[2:]
    for kept in (1, 3, len(whole.token_ids) - 1):
        again = answer(engine, Continuation(40, **settings, prefix_ids=tuple(whole.token_ids[:kept])))
        assert (again.token_ids, again.finish_reason) == (whole.token_ids, whole.finish_reason)
        assert again.end_probability == pytest.approx(whole.end_probability[kept:], abs=1e-4)


def test_a_continuation_stands_beside_other_questions_in_the_batch(engine):
    kept = tuple(answer(engine, Sampling(24)).token_ids[:3])
    alone = [c.token_ids for c in last(engine.compare(MOTTO, sampling=Continuation(24, prefix_ids=kept)))]
    others = engine.compare("哈工大首任校长是谁？", sampling=Sampling(24))
    next(others)
    assert [c.token_ids for c in last(engine.compare(MOTTO, sampling=Continuation(24, prefix_ids=kept)))] == alone
    (_, [base, adapted]), = engine.answer_all([Question(MOTTO)], sampling=Continuation(24, prefix_ids=kept))
    assert [base.token_ids, adapted.token_ids] == alone and base.token_ids != adapted.token_ids
    assert tuple(base.token_ids[:3]) == tuple(adapted.token_ids[:3]) == kept


@pytest.mark.parametrize("ids, said", [((2,), "token id 2 cannot begin"), ((-1,), "token id -1"),
                                       ((10**6,), "allowed: 0 to 8063, but not 2"),
                                       ((300,) * 8, "begin with 8 tokens")])
def test_ids_that_cannot_begin_an_answer_are_refused(engine, ids, said):
    with pytest.raises(BadQuestion, match=said):
        answer(engine, Continuation(8, prefix_ids=ids))
