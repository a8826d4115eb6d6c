"""Executors run independent tasks and yield their results in task order. They know nothing of chat.

An executor is `(fn, tasks, workers, on_position) -> Iterator[result]`. `fn` is a function at the top of a module; tasks
and results pickle. What `fn` raises is raised by the iterator, as it was, and the first in task order wins. A worker
that dies is replaced and its task run once more; the second time an error with `code="worker.lost"` names the task:
InputError for a crash in native code, OutputError for a kill.

Where `fn` tells its places with `at`, that error names the last; if the task has a method `row_by_row(place)`, `fn` is
called once more with its result, to tell places finely and change nothing. Every place is given to `on_position` too, with
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
from .fork_server import current
from .pool import OnPosition, ignore_position, opened, processes
from .pool import in_worker as _in_worker
from .ray import ray
from .worker_main import position_listener, report_position

__all__ = [
    "EXECUTORS", "Executor", "OnPosition", "in_worker", "report_position", "cores", "executor", "has_fork_server", "ignore_position", "opened", "processes",
    "serial",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    def __call__(
        self, fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
    ) -> Iterator[R]: ...


def serial(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """The results of the tasks, run one after the other in this process."""
    for task in tasks:
        with position_listener(partial(on_position, task)):
            made = fn(task)
        yield made


def has_fork_server() -> bool:
    """Whether another process costs next to nothing here, because a nursery is open."""
    return current() is not None


def in_worker(fn: Callable[[T], Iterator[R]], task: T) -> Generator[R, None, None]:
    """What the generator `fn(task)` yields, always the same: from a worker where a nursery is open, else from here."""
    yield from _in_worker(fn, task) if has_fork_server() else fn(task)


def cores() -> int:
    """How many processes may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


EXECUTORS: dict[str, Executor] = {"serial": serial, "processes": processes, "ray": ray}


def executor(name: str) -> Executor:
    """The executor with that name; raises UnknownName."""
    if name not in EXECUTORS:
        raise UnknownName.of("executor", name, EXECUTORS)
    return EXECUTORS[name]
