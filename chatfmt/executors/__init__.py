"""Executors run independent tasks and yield their results in task order. They know nothing of chat.

An executor is `(fn, tasks, workers, on_place) -> Iterator[result]`. `fn` is a function at the top of a module; tasks
and results pickle. What `fn` raises is raised by the iterator, as it was, and the first in task order wins. A worker
that dies is replaced and its task run once more; the second time an error with `code="worker.lost"` names the task:
InputError for a crash in native code, OutputError for a kill.

Where `fn` tells its places with `at`, that error names the last; if the task has a method `closer(place)`, `fn` is
called once more with its result, to tell places finely and change nothing. Every place is given to `on_place` too, with
its task, in the thread that asks for results (Ray gives none).

When the iterator ends, raises or is closed, no worker is left: wrap it in `contextlib.closing` where the loop around it
may raise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ..errors import UnknownName
from .cluster import ray
from .nursery import current
from .pool import OnPlace, nobody, opened, processes
from .pool import apart as _apart
from .work import at, heard_by

__all__ = [
    "EXECUTORS", "Executor", "OnPlace", "apart", "at", "cores", "executor", "is_apart", "nobody", "opened", "processes",
    "serial",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    def __call__(
        self, fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_place: OnPlace[T] = nobody
    ) -> Iterator[R]: ...


def serial(fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_place: OnPlace[T] = nobody) -> Iterator[R]:
    """The results of the tasks, run one after the other in this process."""
    for task in tasks:
        with heard_by(partial(on_place, task)):
            made = fn(task)
        yield made


def is_apart() -> bool:
    """Whether another process costs next to nothing here, because a nursery is open."""
    return current() is not None


def apart(fn: Callable[[T], Iterator[R]], task: T) -> Generator[R, None, None]:
    """What the generator `fn(task)` yields, always the same: from a worker where a nursery is open, else from here."""
    yield from _apart(fn, task) if is_apart() else fn(task)


def cores() -> int:
    """How many processes may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


EXECUTORS: dict[str, Executor] = {"serial": serial, "processes": processes, "ray": ray}


def executor(name: str) -> Executor:
    """The executor with that name; raises UnknownName."""
    if name not in EXECUTORS:
        raise UnknownName.of("executor", name, EXECUTORS)
    return EXECUTORS[name]
