"""The parent's side of a sandbox process: start it, send requests, read answers, end it; see `interpreters`.

A process serves one template. Planning and running render the same one, so a process that is no longer in use is kept
for the next renderer with the same set-up.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from ...child_process import read_frame, to_frame
from ...rendering import MOST_TEXT, check_text_size
from .interpreters import Interpreter, start_interpreter

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
        self._process = start_interpreter()
        try:
            (self.state,) = self.request(setup, 1, _is_state)
        except SandboxDied:
            self.close()
            raise

    def request(self, body: bytes, answers: int, is_valid: Callable[[Any], bool] = lambda answer: True) -> list[Any]:
        """Return the `answers` to a request.

        Raises SandboxDied if they take longer than the time limit, or one is not `is_valid`: the template has taken
        over the process. Raises BatchTooLarge if they are too many bytes together.
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
            if not all(map(is_valid, found)):
                raise SandboxDied
        except BaseException as error:  # after an interrupt too, an unread answer would be taken for the next one
            self._alive = False
            if isinstance(error, (OSError, ValueError, RecursionError, SandboxDied)):
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


def is_error(answer: Any) -> bool:
    """Return whether an answer is the error of a template: the name of its class, its text and its line."""
    error = answer.get("error") if isinstance(answer, dict) else None
    kinds = [*map(type, error)] if isinstance(error, list) else []
    return kinds in ([str, str, int], [str, str, type(None)])


def _is_state(answer: Any) -> bool:
    is_one = isinstance(answer, dict) and answer.keys() == {"level", "errors"} and isinstance(answer["errors"], list)
    return is_one and isinstance(answer["level"], str) and all(map(is_error, answer["errors"]))


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
    """End the idle processes."""
    while _idle:
        _idle.popitem()[1].close()


def _end(process: Interpreter) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast(BinaryIO, pipe).close()
