"""A process that forks workers: all modules are imported once, and a worker is there within milliseconds.

It is forked itself, from a process that has not started a thread yet, and never starts one, so that what it forks is
sound (fork(2): only the calling thread lives on in the child). It serves one request at a time over a socket pair:
fork a worker around two pipes (answer: its pid), or wait for a worker to end (answer: its exit code, negative for a
signal). It dies with its parent, and its workers die with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

from .messages import watch
from .worker_main import belong_to, die_with, work

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Each worker has one core: thread pools would only cost memory and start-up."""
NUMBER = struct.Struct("<q")
FORK = 0
"""The request for a worker; any other number asks for the end of the worker with that pid."""


class ForkServer:
    """This process's side of the socket; safe for threads."""

    def __init__(self, pid: int, wire: socket.socket) -> None:
        self._pid, self._wire, self._guard = pid, wire, threading.Lock()

    def fork(self, tasks: int, answers: int) -> int:
        """The pid of a new worker around the ends of two pipes; raises OSError where the nursery is gone."""
        return self._ask(FORK, [tasks, answers])

    def wait(self, pid: int) -> int:
        """The exit code of a worker that is dying, -N for a signal; raises OSError where the nursery is gone."""
        return self._ask(pid, [])

    def _ask(self, number: int, pipes: Sequence[int]) -> int:
        with self._guard:
            socket.send_fds(self._wire, [NUMBER.pack(number)], pipes)
            watch(self._pid, self._kill, reads=self._wire)
            answer = self._wire.recv(NUMBER.size, socket.MSG_WAITALL)
        if len(answer) < NUMBER.size:
            raise BrokenPipeError("the process that forks workers is gone")
        return int(NUMBER.unpack(answer)[0])

    def close(self) -> None:
        """End it and what it forked, and wait for it."""
        self._kill()
        os.waitpid(self._pid, 0)
        self._wire.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


_open: list[ForkServer] = []


def current() -> ForkServer | None:
    """The nursery of this process, None where workers are fresh interpreters."""
    return _open[-1] if _open else None


@contextlib.contextmanager
def opened(module: str, *more: str) -> Iterator[None]:
    """A block with a nursery, where that is safe; what it forks has imported `module`, as this process has, and `more`.

    Those are imported while this process goes on.
    """
    if not can_fork():
        yield
        return
    importlib.import_module(module)
    _open.append(_started(more))
    try:
        yield
    finally:
        _open.pop().close()


def can_fork() -> bool:
    """Whether this process can fork a nursery: on Linux, with no thread of Python beside this one."""
    return sys.platform == "linux" and threading.active_count() == 1


def _started(modules: Sequence[str]) -> ForkServer:
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    with warnings.catch_warnings():  # Python warns of any thread; jemalloc's own one is made to be forked
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs, parent, modules)
    theirs.close()
    return ForkServer(pid, ours)


def _serve(wire: socket.socket, parent: int, modules: Sequence[str]) -> None:
    """Be the nursery until its parent is gone."""
    try:
        belong_to(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for module in modules:
            importlib.import_module(module)
        gc.freeze()  # what is there now will not be collected, so that forks can share its pages
        gc.enable()
        while True:
            data, pipes, _, _ = socket.recv_fds(wire, NUMBER.size, 2)
            if not data:
                os._exit(0)
            (number,) = NUMBER.unpack(data)
            wire.sendall(NUMBER.pack(_forked(wire, pipes) if number == FORK else _ended(number)))
    finally:
        os._exit(1)


def _forked(wire: socket.socket, pipes: Sequence[int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        wire.close()
        die_with(parent)
        work(os.fdopen(pipes[0], "rb", 0), os.fdopen(pipes[1], "wb", 0))
    for pipe in pipes:
        os.close(pipe)
    return pid


def _ended(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
