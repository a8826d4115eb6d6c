"""One worker process, seen from its parent: forked by the nursery where there is one, else a fresh interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from .fork_server import ONE_THREAD, ForkServer, current
from .messages import ITEM, PLACE, receive, send, watch

BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from chatfmt.executors.worker_main import spawned;spawned()"
CRASHES = {
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE") if hasattr(signal, name)
}


class WorkerDied(Exception):
    """A worker died; in words how, whether it crashed by itself, and where it was, if it had said so."""

    def __init__(self, how: str, crash: bool, place: object = None) -> None:
        super().__init__(how)
        self.crash, self.place = crash, place


class Process(Protocol):
    """A process with two pipes."""

    pid: int
    tasks: BinaryIO
    answers: BinaryIO

    def kill(self) -> None: ...
    def wait(self) -> int:
        """Its exit code once it has ended, -N for a signal."""
        ...


class Spawned:
    """A fresh interpreter: slow to start, the same on every platform."""

    def __init__(self) -> None:
        path = json.dumps([str(Path(entry).resolve()) if entry else str(Path.cwd()) for entry in sys.path])
        command = [sys.executable, "-c", BOOT, path, str(os.getpid())]
        env = {**ONE_THREAD, **os.environ}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0)
        self.pid, self.kill, self.wait = self._process.pid, self._process.kill, self._process.wait
        self.tasks, self.answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)


class Forked:
    """A child of the nursery; raises OSError where that is gone."""

    def __init__(self, parent: ForkServer) -> None:
        (tasks, own_tasks), (own_answers, answers) = os.pipe(), os.pipe()
        self.tasks, self.answers = (
            cast(BinaryIO, os.fdopen(own_tasks, "wb", 0)),
            cast(BinaryIO, os.fdopen(own_answers, "rb", 0)),
        )
        try:
            self.pid = parent.fork(tasks, answers)
        except OSError:
            self.tasks.close()
            self.answers.close()
            raise
        finally:
            os.close(tasks)
            os.close(answers)
        self._parent, self._code = parent, None

    _code: int | None

    def kill(self) -> None:
        if self._code is None:  # until it was waited for, its pid is its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            try:
                self._code = self._parent.wait(self.pid)
            except OSError:  # the nursery was killed, and its workers with it
                self._code = -signal.SIGKILL
        return self._code


def start() -> Process:
    """A new process for a worker."""
    parent = current()
    if parent is not None:
        with contextlib.suppress(OSError):
            return Forked(parent)
    return Spawned()


class Worker:
    """A process that takes calls, one after the other."""

    def __init__(self) -> None:
        self._process = start()

    def call(self, payload: bytes, on_position: Callable[[object], object] = lambda place: None) -> bytes:
        """The outcome of a pickled call, `on_position` told its places; raises WorkerDied when the worker dies or is stopped."""
        *_, answer = self.messages(payload, on_position)
        return answer

    def messages(self, payload: bytes, on_position: Callable[[object], object] = lambda place: None) -> Iterator[bytes]:
        """What a pickled call yields, and its outcome last; raises WorkerDied when the worker dies or is stopped."""
        place: object = None
        try:
            send(self._process.tasks, payload, partial(self._watch, writes=self._process.tasks))
            heard = partial(self._watch, reads=self._process.answers)
            while (message := receive(self._process.answers, heard)) is not None:
                if message[:1] == PLACE:
                    place = pickle.loads(memoryview(message)[1:])
                    on_position(place)
                    continue
                yield message
                if message[:1] != ITEM:
                    return
        except (OSError, ValueError):  # it died while it was written to, or was ended
            pass
        raise self._death(place)

    def _watch(self, **ends: BinaryIO) -> None:
        watch(self._process.pid, self._process.kill, **ends)

    def _death(self, place: object) -> WorkerDied:
        code = self._process.wait()
        who = f"worker {self._process.pid}"
        if code >= 0:
            return WorkerDied(f"{who} ended with exit code {code}", False, place)
        name = signal.Signals(-code).name
        why = " (out of memory?)" if name == "SIGKILL" else ""
        return WorkerDied(f"{who} was killed by {name}{why}", -code in CRASHES, place)

    def kill(self) -> None:
        """Kill the process, if it is there, without waiting for it."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, if it is there, and wait for it."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.tasks, self._process.answers):
            with contextlib.suppress(OSError):
                pipe.close()


def payload_of(fn: Callable[[Any], Any], task: object) -> bytes:
    """The call `fn(task)` in bytes."""
    return pickle.dumps((fn, task), 5)
