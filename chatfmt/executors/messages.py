"""Messages between a process and its workers: pickles on a pipe, each of which marks its own end.

The value of a message is pickled by itself first, so that one that cannot be pickled fails before anything is written,
and one that cannot be unpickled is not mistaken for a broken pipe.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from ..errors import ChatfmtError, OutputError, exhausted

RESULT, ERROR, ITEM, POSITION = "result", "error", "item", "position"


class WorkerMessage(NamedTuple):
    """An answer of a worker: its result or error at the end, items of a generator and positions before."""

    kind: str
    data: bytes


def send(pipe: BinaryIO, message: object) -> None:
    """Write a message; raises OSError if the reader is gone."""
    pickle.dump(message, pipe, 5)
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """Return the next message; None at the end of the pipe, also in the middle of a message."""
    try:
        return pickle.load(pipe)
    except (EOFError, pickle.UnpicklingError):
        return None


def call_data(fn: Callable[[Any], Any], task: object, *, is_generator: bool = False) -> bytes:
    """Return the call `fn(task)` for a worker, which sends every item of a generator."""
    return pickle.dumps((fn, task, is_generator), 5)


def outcome(fn: Callable[[Any], Any], argument: Any) -> WorkerMessage:
    """Return the result of `fn(argument)` or the error that it raises."""
    try:
        return WorkerMessage(RESULT, pickle.dumps(fn(argument), 5))
    except MemoryError:
        error = OutputError("a task ran out of memory", hint="use fewer `--workers`", code="worker.memory")
        return WorkerMessage(ERROR, pickle.dumps((error, None)))
    except BaseException as error:
        return WorkerMessage(ERROR, _error_data(exhausted(error) or error))


def value_of(message: WorkerMessage) -> Any:
    """Return the value of a message; raises the error that an ERROR holds, with its cause."""
    value = pickle.loads(message.data)
    if message.kind == ERROR:
        error, cause = value
        raise error from cause
    return value


def _error_data(error: BaseException) -> bytes:
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
