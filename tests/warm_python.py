"""`python -m train` and its like as processes of their own, without the seconds in which they import torch.

While tests run, `sys.executable` is the client of this file. It hands its arguments, environment, directory and streams
to a server that has imported what our programs import; the server forks a child, which runs the program as `python`
would. The client passes signals on and ends as the program ends; killed, it takes the program with it. What comes
before the server is ready, but for the page, and what it knows nothing of (`-c`, other modules) is left to the real
interpreter. The program's process is no child of the client's: a test that looks into the process itself asks for the
real interpreter, by the fixture `cold`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys

PROGRAMS = ("train", "compare", "lens.adapter.prompts", "torch.distributed.run")
SCRIPT = "app.py"
IMPORTED = ("accelerate", "compare.engine.local", "compare.page.page", "compare.report.build", "matplotlib.pyplot",
            "peft", "rich.live", "torch.distributed.run", "train.loop", "train.merge", "transformers.trainer",
            "transformers.models.bloom.modeling_bloom")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LARGEST = 1 << 20  # bytes of a request


def client(address: str, arguments: list[str]) -> None:
    """Run the arguments as `python` would, and end as they end."""
    program = (arguments[1:] if arguments[:1] == ["-u"] else arguments) or [""]
    is_page = os.path.basename(program[0]) == SCRIPT
    known = is_page or program[0] == "-m" and program[1].startswith(PROGRAMS)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    asked = {"program": program, "unbuffered": arguments[:1] == ["-u"], "directory": os.getcwd(),
             "environment": dict(os.environ), "umask": os.umask(0)}
    os.umask(asked["umask"])
    try:
        waits = is_page or os.path.exists(f"{address}.ready")  # the page's own children are warm then
        if known:
            server.connect(address)  # which wakes it
        if not known or not waits:
            raise OSError("for the interpreter itself")
        socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
        if not (said := server.recv(LARGEST)):
            raise OSError("the server has ended")
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.execv(sys.executable, [sys.executable, *arguments])
    pid = int(said)
    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda heard, _: os.kill(pid, heard))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    ended = os.waitstatus_to_exitcode(int(server.recv(LARGEST) or signal.SIGKILL))
    if ended < 0:
        if -ended in PASSED_ON:
            signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
    os._exit(ended)


def serve(listener: socket.socket) -> tuple[dict, list[int]] | None:
    """Fork a child for each request, in which this returns the request and its streams; None: the tests have ended."""
    import gc
    import importlib
    import select

    running: dict[int, tuple[int, socket.socket]] = {}  # by its pidfd, each program and its client
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        clients = {asker: (pid, pidfd) for pidfd, (pid, asker) in running.items()}
        ready = select.select([0, listener, *running, *clients], [], [])[0]
        if 0 in ready:
            return None
        for pidfd in running.keys() & set(ready):
            pid, asker = running.pop(pidfd)
            os.close(pidfd)
            tell(asker, os.waitpid(pid, 0)[1])
            asker.close()
        for asker in clients.keys() & set(ready):
            pid, pidfd = clients[asker]
            if pidfd in running:  # its client was killed
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.close(pidfd)
                running.pop(pidfd)
                asker.close()
        if listener in ready:
            asker = listener.accept()[0]
            if not gc.get_freeze_count():
                for name in IMPORTED:
                    importlib.import_module(name)
                gc.freeze()
                open(f"{listener.getsockname()}.ready", "x").close()
            message, streams, _, _ = socket.recv_fds(asker, LARGEST, 3)
            if not message:  # it is killed, or did not wait
                asker.close()
                continue
            if not (pid := os.fork()):
                for one in (listener, asker, *clients):
                    one.close()
                return json.loads(message), streams
            for stream in streams:
                os.close(stream)
            tell(asker, pid)
            running[os.pidfd_open(pid)] = pid, asker


def tell(asker: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it was killed
        asker.send(str(number).encode())


def become(asked: dict, streams: list[int], python: str) -> None:
    """Run a program in this process."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["directory"])
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = open(0, encoding=encoding, closefd=False)
    sys.stdout = open(1, "w", encoding=encoding, errors=errors or None, closefd=False)
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through=asked["unbuffered"])
    sys.executable = python
    kind, *arguments = asked["program"]
    sys.path[0] = asked["directory"] if kind == "-m" else os.path.dirname(os.path.abspath(kind))
    if kind == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = asked["program"]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(sys.argv[2], sys.argv[3:])
    else:  # the listening socket's number, the client's path
        if request := serve(socket.socket(fileno=int(sys.argv[2]))):
            become(*request, sys.argv[3])
