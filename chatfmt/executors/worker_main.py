"""The main function of a worker: run pickled calls, send results, items and positions."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from ..child_process import die_with_parent
from .messages import ITEM, POSITION, WorkerMessage, outcome, receive, send
from .position import position_listener


def work(tasks: BinaryIO, answers: BinaryIO) -> None:
    """Run calls until there are no more, then leave the process."""

    def send_value(kind: str, value: object) -> None:
        send(answers, WorkerMessage(kind, pickle.dumps(value, 5)))

    with position_listener(partial(send_value, POSITION)):
        while (call := receive(tasks)) is not None:
            send(answers, outcome(partial(_run, partial(send_value, ITEM)), call))
    os._exit(0)


def _run(send_item: Callable[[object], None], call: bytes) -> Any:
    fn, task, is_generator = pickle.loads(call)
    if not is_generator:
        return fn(task)
    for item in fn(task):
        send_item(item)
    return None


def spawned() -> None:
    """Run a worker in a fresh interpreter: read calls from stdin, write answers to stdout."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    belong_to(int(sys.argv[1]))
    without_pandas()
    work(tasks, answers)


def belong_to(parent: int) -> None:
    """Set this process up as a worker of `parent`: leave its streams alone, keep freed memory, die with it."""
    release_stdio()
    keep_memory()
    die_with(parent)


def keep_memory() -> None:
    """Make glibc keep freed memory for the arrays of the next batch (mallopt(3)), those of Arrow too.

    Returning it and faulting it in again, page by page, takes a twentieth of a long conversion. The allocator that
    comes with Arrow maps huge pages, and clearing them takes a sixth of the CPU time of 100,000 rows of Parquet; at a
    million rows both allocators take the same time. Peak memory does not grow.
    """
    if sys.platform == "linux":
        import ctypes

        import pyarrow as pa

        m_trim_threshold, m_mmap_threshold, most = -1, -3, 32 << 20
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(m_mmap_threshold, most)
            mallopt(m_trim_threshold, 2**31 - 1)
            pa.set_memory_pool(pa.system_memory_pool())


def release_stdio() -> None:
    """Leave stdin and stdout to the parent: reads return nothing, prints go to stderr."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)


def die_with(parent: int) -> None:
    """Ask Linux for a SIGKILL when the parent dies; elsewhere a worker ends after its task, at the end of the pipe.

    Ctrl-C is left to the parent, which ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    if sys.platform == "linux" and os.getppid() != parent:
        os._exit(0)


def without_pandas() -> None:
    """Keep pyarrow from importing pandas (0.8 s) in this process; only for processes that chatfmt itself starts.

    pyarrow looks for pandas once, at its first conversion from Python objects, and remembers the result.
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
