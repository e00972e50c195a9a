"""app.py where a GPU is lent for each question: a stand-in `spaces` forks a worker a call and pickles, as ZeroGPU does.

What only a real Space can prove is listed in deploy/README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MOTTO

from compare.engine.interface import BASE, Question, Sampling
from compare.engine.zero_gpu import LONGEST, START, seconds

ROOT = Path(__file__).resolve().parent.parent
SPACES = '''
import os, pickle, sys
torch_came_first, asked = "torch" in sys.modules, []

def GPU(duration):
    """Each call in a worker of its own; arguments and what it yields travel as bytes."""
    def decorate(function):
        def call(*args):
            asked.append(duration(*args))
            read, write = os.pipe()
            sent = pickle.dumps(args)
            if (worker := os.fork()) == 0:
                with os.fdopen(write, "wb") as pipe:
                    try:
                        for item in function(*pickle.loads(sent)):
                            pickle.dump(item, pipe)
                            pipe.flush()
                        pickle.dump(None, pipe)
                    except BaseException as err:
                        pickle.dump(RuntimeError(repr(err)), pipe)
                os._exit(0)
            os.close(write)
            with os.fdopen(read, "rb") as pipe:
                try:
                    while (item := pickle.load(pipe)) is not None:
                        if isinstance(item, Exception):
                            raise item
                        yield item
                finally:
                    os.kill(worker, 9)
                    os.waitpid(worker, 0)
        return call
    return decorate
'''
SPACE = """
import json, sys, threading
import app
engine = app.load_engine(app.parse(["--device", "cpu", "--dtype", "float32", "--adapter", "assets/adapters/lens"]))
import spaces
from compare.engine.answers import compare
from compare.engine.interface import Question, Sampling
from lens.errors import BadQuestion

asked = Question(sys.argv[1])

def answer(**how):
    *_, columns = compare(engine, asked, **how)
    return [[c.token_ids, c.finish_reason] for c in columns]

stop = threading.Event()
stream = compare(engine, asked, sampling=Sampling(500, temperature=2.0), cancelled=stop)
next(stream)
stop.set()
*_, stopped = stream
try:
    next(compare(engine, Question(" ")))
except BadQuestion:
    empty = len(spaces.asked)
engine.here.queue.admit = engine.here.queue.read = engine.here.queue.step = None  # nothing is answered here
print(json.dumps({"torch first": spaces.torch_came_first, "answers": [answer(sampling=Sampling(24)) for _ in "12"],
                  "asked": spaces.asked, "at empty": empty, "first answer": app.first_answer(engine),
                  "stopped": [c.finish_reason for c in stopped]}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, and no ZeroGPU either")
def test_every_answer_is_computed_by_the_one_decorated_entry(engine, tmp_path):
    (tmp_path / "spaces.py").write_text(SPACES)
    env = {**os.environ, "SPACES_ZERO_GPU": "1", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", SPACE, MOTTO], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    *_, columns = engine.compare(MOTTO, sampling=Sampling(24))
    right = [[c.token_ids, c.finish_reason] for c in columns]
    assert said["answers"] == [right, right] and said["torch first"] is False and said["first answer"] == []
    assert len(said["asked"]) == 3 and said["at empty"] == 1  # the empty question asked for no GPU
    assert set(said["stopped"]) == {"cancelled"}


def test_a_question_asks_for_as_much_time_as_its_answer_may_take():
    short, long, longest = (seconds(Question("q"), [BASE], Sampling(n)) for n in (8, 200, 4096))
    assert short == START < long < longest == LONGEST
