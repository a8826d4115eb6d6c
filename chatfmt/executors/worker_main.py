"""What a worker does: take pickled calls, answer with what came of them, say meanwhile where it is."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ..errors import ChatfmtError, OutputError
from .messages import FAILED, ITEM, PLACE, WORKED, receive, send
from .position import position_listener

_answers: BinaryIO | None = None
"""The way back of this process, if it is a worker."""


def each(call: tuple[Callable[[Any], Iterator[Any]], Any]) -> None:
    """Send what the generator yields, item by item; to be run in a worker."""
    fn, task = call
    assert _answers is not None
    for item in fn(task):
        send(_answers, ITEM + pickle.dumps(item, 5))


def outcome(fn: Callable[[Any], Any], task: Any) -> bytes:
    """What came of `fn(task)`, its result or its error, in bytes for `result`."""
    try:
        return WORKED + pickle.dumps(fn(task), 5)
    except MemoryError:
        error: BaseException = OutputError(
            "a task ran out of memory", hint="use fewer `--workers`", code="worker.memory"
        )
        return FAILED + pickle.dumps((error, None))
    except BaseException as error:
        return FAILED + _pickled_error(error)


def result(answer: bytes) -> Any:
    """The result or item that a message holds; raises the error that `outcome` put there, with its cause."""
    value = pickle.loads(memoryview(answer)[1:])
    if answer[:1] == FAILED:
        error, cause = value
        raise error from cause
    return value


def _pickled_error(error: BaseException) -> bytes:
    cause = error.__cause__
    if not isinstance(error, ChatfmtError):  # a bug: its traceback would be lost
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    for pair in ((error, cause), (error, None)):
        with contextlib.suppress(Exception):
            data = pickle.dumps(pair)
            pickle.loads(data)
            return data
    text = "".join(traceback.format_exception(error))
    return pickle.dumps((RuntimeError(f"{type(error).__name__} in a worker, which does not pickle:\n{text}"), None))


def work(tasks: BinaryIO, answers: BinaryIO) -> None:
    """Be a worker until there are no more tasks, then leave the process."""
    global _answers
    _answers = answers
    with position_listener(lambda position: send(answers, PLACE + pickle.dumps(position, 5))):
        while (payload := receive(tasks)) is not None:
            send(answers, outcome(_run, payload))
    os._exit(0)


def _run(payload: bytes) -> Any:
    fn, task = pickle.loads(payload)
    return fn(task)


def spawned() -> None:
    """The main function of a worker that is a fresh interpreter: its tasks come on stdin, answers go to stdout."""
    tasks, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    belong_to(int(sys.argv[2]))
    from .worker_main import without_pandas

    without_pandas()
    work(tasks, answers)


def belong_to(parent: int) -> None:
    """Make this process one that works for `parent` alone: it stays off its streams, keeps memory, ends with it."""
    keep_to_itself()
    keep_memory()
    die_with(parent)


def keep_memory() -> None:
    """Have glibc keep what was freed for the arrays of the next batch (mallopt(3)); Arrow is told in `__main__`.

    To give it back and ask for it again, page by page, is a twentieth of a long conversion. The most that is used at
    once does not grow.
    """
    if sys.platform == "linux":
        import ctypes

        m_trim_threshold, m_mmap_threshold, most = -1, -3, 32 << 20
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(m_mmap_threshold, most)
            mallopt(m_trim_threshold, 2**31 - 1)


def keep_to_itself() -> None:
    """Leave stdin and stdout to the parent: reads find nothing, prints go to stderr."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)


def die_with(parent: int) -> None:
    """Ask Linux for a SIGKILL when the parent is gone; elsewhere the end of the pipe has to do, after the task.

    Ctrl-C is left to the parent, which ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def without_pandas() -> None:
    """Keep pyarrow from importing pandas (0.8 s) in this process; only for processes that chatfmt itself starts.

    pyarrow asks for pandas once, at its first conversion from Python objects, and remembers the answer.
    """

    import importlib.abc

    import pyarrow as pa

    class Absent(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name)

    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, absent := Absent())
        pa.array([None])
        sys.meta_path.remove(absent)
