"""What stands for Ray Serve's handle and for ZeroGPU's decorator, in this process: all that travels is pickled."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from deploy.ray_serve import Replica


def apart(coroutine):
    """Its result, run in a thread of its own: the browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def sent(value):
    return pickle.loads(pickle.dumps(value))


class Died(Exception):
    """Stands for ray.exceptions.RayActorError."""


class Stream:
    """Reads a replica's async generator in a loop of its own; dies after `lives` items."""

    def __init__(self, made, lives: int | None):
        self.loop, self.made, self.lives, self.cancelled = asyncio.new_event_loop(), made, lives, False

    def __iter__(self):
        try:
            while self.lives is None or self.lives > 0:
                yield sent(self.loop.run_until_complete(anext(self.made)))
                self.lives = None if self.lives is None else self.lives - 1
            raise Died("the actor died")
        except StopAsyncIteration:
            return
        finally:
            self.loop.run_until_complete(self.made.aclose())
            self.loop.close()

    def cancel(self):
        self.cancelled = True


class Handle:
    """Serve's handle as far as it is used. `lives`: items until each call's replica dies (None: it lives)."""

    def __init__(self, replica: Replica):
        self.replica, self.lives, self.streams = replica, [], []
        for name in ("facts", "call"):
            setattr(self, name, self.unary(getattr(replica, name)))
        self.answer = SimpleNamespace(remote=self.stream)

    def options(self, stream: bool):
        assert stream
        return self

    def unary(self, call):
        return SimpleNamespace(remote=lambda *args: SimpleNamespace(result=lambda: sent(apart(call(*sent(args))))))

    def stream(self, *args):
        lives = self.lives.pop(0) if self.lives else None
        self.streams.append(Stream(self.replica.answer(*sent(args)), lives))
        return self.streams[-1]


def lend(duration):
    """As `spaces.GPU`, without a process of its own; test_zero_gpu.py has one."""
    def decorate(function):
        def call(*args):
            assert duration(*args) > 0
            for item in function(*sent(args)):
                yield sent(item)
        return call
    return decorate
