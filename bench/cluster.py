"""Two engines on Ray Serve behind one face, 16 clients, a replica killed under load: python -m bench.cluster

Needs requirements-cluster.txt. Every answer is held to the same question in a single process; what a visitor sees of
the kill is told: nothing, a pause, or a failure. Prints the figures as JSON; exit status 1 where an answer is wrong
or missing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time

from bench.shared.hit_qa import held_out
from compare.engine.answers import answer_all, compare
from compare.engine.interface import Sampling
from compare.engine.local import LocalEngine
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

CLIENTS = 16
GREEDY = Sampling(64)


def ids(columns) -> list[list[int]]:
    return [column.token_ids for column in columns]


def replicas() -> list[tuple[str, int]]:
    """(actor's id, process id) of the living engines."""
    from ray.util.state import list_actors

    found = list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return [(actor.actor_id, actor.pid) for actor in found if "engine" in (actor.name or "")
            and "Replica" in actor.class_name]


def wait_for(count: int, seconds: float) -> list[tuple[str, int]]:
    until = time.monotonic() + seconds
    while len(found := replicas()) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(found)} of {count} replicas after {seconds:g} s")
        time.sleep(1)
    return found


class Client(threading.Thread):
    """Asks its questions one after the other, and keeps the answers, the longest pause and what went wrong."""

    def __init__(self, engine, questions, stop: threading.Event):
        super().__init__(daemon=True)
        self.engine, self.questions, self.stop = engine, questions, stop
        self.answers: list[tuple[int, list[list[int]]]] = []
        self.faults: list[str] = []
        self.pause = 0.0

    def run(self) -> None:
        while not self.stop.is_set():
            for number, question in self.questions:
                try:
                    self.ask(number, question)
                except Exception as err:  # noqa: BLE001 (each counts as what a visitor saw)
                    self.faults.append(f"{type(err).__name__}: {err}"[:300])
                if self.stop.is_set():
                    return

    def ask(self, number: int, question) -> None:
        columns, last = [], time.monotonic()
        for columns in compare(self.engine, question, sampling=GREEDY):
            self.pause, last = max(self.pause, time.monotonic() - last), time.monotonic()
        self.answers.append((number, ids(columns)))


def measure(seconds: float) -> dict:
    from compare.engine.remote import RemoteEngine
    from deploy.ray_serve import serve_engine

    questions = list(enumerate(held_out(CLIENTS * 2)))
    single = LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER)
    alone = {number: ids(columns) for number, columns in answer_all(single, [q for _, q in questions], sampling=GREEDY)}
    handle = serve_engine(EMBEDDED_BASE, None, "cpu", "auto", most=2, least=2)
    remote = RemoteEngine(handle, EMBEDDED_BASE, [EMBEDDED_ADAPTER])
    before = wait_for(2, 120)
    stop = threading.Event()
    clients = [Client(remote, questions[i::CLIENTS], stop) for i in range(CLIENTS)]
    began = time.monotonic()
    for client in clients:
        client.start()
    time.sleep(seconds / 2)
    done_before = sum(len(client.answers) for client in clients)
    os.kill(before[0][1], signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(seconds / 2)
    stop.set()
    for client in clients:
        client.join(120)
    took = time.monotonic() - began
    answers = [one for client in clients for one in client.answers]
    wrong = sum(found != alone[number] for number, found in answers)
    after = wait_for(2, 120)
    return {"clients": CLIENTS, "seconds": round(took, 1), "answers": len(answers), "before the kill": done_before,
            "wrong": wrong, "failures seen by a client": [f for c in clients for f in c.faults],
            "hanging clients": sum(client.is_alive() for client in clients),
            "longest pause of any client, s": round(max(client.pause for client in clients), 2),
            "a new replica came": before[0] not in after and len(after) == 2,
            "seconds from the kill to two replicas, at most": round(time.monotonic() - killed, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="of load, the kill in the middle (default: 30)")
    figures = measure(parser.parse_args().seconds)
    print(json.dumps(figures, ensure_ascii=False, indent=1))
    whole = not figures["wrong"] and not figures["failures seen by a client"] and not figures["hanging clients"]
    return 0 if whole and figures["a new replica came"] else 1


if __name__ == "__main__":
    sys.exit(main())
