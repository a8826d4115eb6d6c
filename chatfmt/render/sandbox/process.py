"""The parent's side of a sandbox process: start it, send requests, read answers, end it.

A process serves one template. Planning and running render the same one, so a process that is no longer in use is kept
for the next renderer with the same set-up.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...rendering import MOST_TEXT, check_text_size
from .framing import read_frame, to_frame

NEEDED = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment variables that an interpreter may need to start; tokens and keys are not passed on."""
BOOT = """
import json, sys, types
path, package = json.loads(sys.argv[1])
sys.path[:] = path
for name in ("chatfmt", "chatfmt.render"):  # without running their `__init__`: pyarrow costs more than all the rest
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [package + name.removeprefix("chatfmt").replace(".", "/")]
sys.modules["numpy"] = numpy = types.ModuleType("numpy")
numpy.generic = type("generic", (), {})  # JSON holds no numpy values
from chatfmt.render.sandbox.worker import main
main()
"""
"""The program of the process; its argument is JSON: the import path and the folder of the package."""


IDLE_PROCESSES = 2
"""The number of unused processes that are kept; beyond that, the oldest is ended."""


class SandboxDied(Exception):
    """The process died, or was killed after its time limit (`out_of_time`), before it answered."""

    def __init__(self, out_of_time: bool = False) -> None:
        super().__init__()
        self.out_of_time = out_of_time


MOST_ANSWER = 256 << 20
"""Bytes of an answer: more than the limits allow a template to print, escaped as JSON."""


class SandboxProcess:
    """A running sandbox process; `state` is its answer to `setup`. After SandboxDied it cannot be used again."""

    def __init__(self, setup: bytes, seconds: float) -> None:
        self.setup = setup
        self._seconds, self._alive = seconds, True
        self._process = _take_interpreter()
        try:
            (self.state,) = self.request(setup, 1)
        except SandboxDied:
            self.close()
            raise

    def request(self, body: bytes, answers: int) -> list[Any]:
        """Return the `answers` to a request.

        Raises SandboxDied if they take longer than the time limit, BatchTooLarge if they are too many bytes together.
        """
        late = threading.Event()
        timer = threading.Timer(self._seconds, self._stop, [late])
        timer.daemon = True
        timer.start()
        try:
            stdin = cast(BinaryIO, self._process.stdin)
            stdin.write(to_frame(body))
            stdin.flush()
            found, size = self._receive(answers)
        except BaseException as error:  # after an interrupt too, an unread answer would be taken for the next one
            self._alive = False
            if isinstance(error, (OSError, ValueError, SandboxDied)):
                raise SandboxDied(late.is_set()) from None
            raise
        finally:
            timer.cancel()
        check_text_size(size, answers)
        return found

    def _stop(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _receive(self, answers: int) -> tuple[list[Any], int]:
        """Read answers, of which no more than MOST_TEXT bytes are kept, and return the size of all."""
        found, size = [], 0
        for _ in range(answers):
            body = read_frame(cast(BinaryIO, self._process.stdout).read, MOST_ANSWER)
            if body is None:
                raise SandboxDied
            size += len(body)
            if size <= MOST_TEXT or answers == 1:
                found.append(json.loads(body))
        return found, size

    def close(self) -> None:
        self._alive = False
        _end(self._process)

    @property
    def is_usable(self) -> bool:
        """Whether it runs and its pipes are open; collecting a cycle of garbage that holds a process closes them."""
        pipes = (self._process.stdin, self._process.stdout)
        return self._alive and self._process.poll() is None and not any(pipe is None or pipe.closed for pipe in pipes)

    def release(self) -> None:
        """Keep the process for the next `take_process` with the same set-up, if it can still answer."""
        if self.is_usable:
            _keep(self)
        else:
            self.close()


_idle: dict[bytes, SandboxProcess] = {}
_idle_lock = threading.RLock()  # reentrant: a renderer may be collected, and so released, at any moment
os.register_at_fork(after_in_child=_idle.clear)


def take_process(setup: dict[str, Any], seconds: float) -> SandboxProcess:
    """Return a process with this set-up: one that was released, or a new one. Raises SandboxDied."""
    key = json.dumps(setup).encode()
    with _idle_lock:
        released = _idle.pop(key, None)
    if released and released.is_usable:
        return released
    if released:
        released.close()
    return SandboxProcess(key, seconds)


def _keep(process: SandboxProcess) -> None:
    with _idle_lock:
        if twin := _idle.pop(process.setup, None):
            twin.close()
        _idle[process.setup] = process
        while len(_idle) > IDLE_PROCESSES:
            _idle.pop(next(iter(_idle))).close()


@atexit.register
def close_idle() -> None:
    """End the processes that nobody uses."""
    while _idle:
        _idle.popitem()[1].close()


class _Spare:
    """An interpreter that waits for its first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = _start_interpreter()

    def take(self) -> subprocess.Popen[bytes] | None:
        process, self._process = self._process, None
        return process


_spare: ContextVar[_Spare | None] = ContextVar("_spare", default=None)
"""The spare of the innermost `prestarted_process` of this thread, so that no other thread takes it."""


@contextlib.contextmanager
def prestarted_process() -> Iterator[None]:
    """Start an interpreter now, for the first SandboxProcess inside the block: it imports modules meanwhile.

    Not if a process was released before, which most likely is for the same template.
    """
    if _idle:
        yield
        return
    spare = _Spare()
    token = _spare.set(spare)
    try:
        yield
    finally:
        _spare.reset(token)
        if unused := spare.take():
            _end(unused)


def _take_interpreter() -> subprocess.Popen[bytes]:
    spare = _spare.get()
    return (spare.take() if spare else None) or _start_interpreter()


def _start_interpreter() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    argument = json.dumps([[str(Path(entry).resolve()) for entry in sys.path], package])
    command = [sys.executable, "-I", "-S", "-B", "-c", BOOT, argument]
    env = {name: os.environ[name] for name in NEEDED if name in os.environ}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=env)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast(BinaryIO, pipe).close()
