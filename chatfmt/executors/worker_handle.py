"""The parent's side of one worker process: forked by the fork server if there is one, else a fresh interpreter."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

from ..child_process import python_command
from .fork_server import ForkServer
from .messages import ERROR, POSITION, RESULT, WorkerMessage, receive, send
from .watchdog import Watchdog
from .worker_died import WorkerDied

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Each worker has one core: thread pools would only cost memory and start-up time."""
CRASHES = {
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE") if hasattr(signal, name)
}


class Process(Protocol):
    """The part of `subprocess.Popen` that a `Worker` uses: calls go to `stdin`, answers come from `stdout`."""

    pid: int
    stdin: BinaryIO
    stdout: BinaryIO

    def kill(self) -> None: ...
    def wait(self) -> int: ...


def spawn() -> Process:
    """Start a fresh interpreter: slow, the same on every platform."""
    command = python_command("from chatfmt.executors.worker_main import spawned; spawned()", str(os.getpid()))
    env = {**ONE_THREAD, **os.environ}
    return cast(Process, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env))


class Forked:
    """A child of the fork server; raises OSError if that is gone."""

    def __init__(self, server: ForkServer) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.pid = server.fork(theirs.fileno())
            self.stdin: BinaryIO = ours.makefile("wb")
            self.stdout: BinaryIO = ours.makefile("rb")
        self._server, self._lock = server, threading.Lock()
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:  # not waited for yet, so its pid is still its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        with self._lock:  # the fork server can wait for a pid once
            if self._code is None:
                try:
                    self._code = self._server.wait(self.pid)
                except OSError:  # the fork server was killed, and its workers with it
                    self._code = -signal.SIGKILL
            return self._code


def start(server: ForkServer | None) -> Process:
    """Start a process for a worker."""
    if server is not None:
        with contextlib.suppress(OSError):
            return Forked(server)
    return spawn()


class Worker:
    """A process that runs calls, one after the other."""

    def __init__(self, server: ForkServer | None = None) -> None:
        self._process = start(server)
        self._watchdog = Watchdog(self._process.pid, self._process.kill)

    def call(self, call: bytes) -> Iterator[WorkerMessage]:
        """Yield the messages of a call (`call_data`), its result or error last.

        Raises WorkerDied if the worker dies or is stopped.
        """
        last: WorkerMessage | None = None
        try:
            send(self._process.stdin, call)
            while (message := receive(self._process.stdout)) is not None:
                if message.kind == POSITION:
                    last = message
                yield message
                if message.kind in (RESULT, ERROR):
                    return
        except (OSError, ValueError):  # it died while it was written to, or was ended
            pass
        raise self._death(pickle.loads(last.data) if last else None)

    def _death(self, position: object) -> WorkerDied:
        code = self._process.wait()
        worker = f"worker {self._process.pid}"
        if code >= 0:
            return WorkerDied(f"{worker} ended with exit code {code}", position=position)
        name = signal.Signals(-code).name
        reason = " (out of memory?)" if name == "SIGKILL" else ""
        return WorkerDied(f"{worker} was killed by {name}{reason}", is_crash=-code in CRASHES, position=position)

    def kill(self) -> None:
        """Kill the process, if it is there, without waiting for it."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, if it is there, and wait for it; may be called twice."""
        self._watchdog.close()
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
