"""The struct that describes an executor, and the small functions that all of them share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")
R = TypeVar("R")
OnPosition = Callable[[T, object], object]
"""Called with a task and the position that it reports."""

TASKS_AHEAD = 4
"""Tasks in flight per worker, so that one slow task does not leave the other workers idle."""


def ignore_position(task: object, position: object) -> None:
    """Ignore position reports."""


class RunTasks(Protocol):
    """Yield `fn(task)` for each task, in task order, computed by up to `workers` workers."""

    def __call__(
        self, fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
    ) -> Iterator[R]: ...


class Executor(Struct, frozen=True):
    """An entry of `EXECUTORS`."""

    run: RunTasks
    summary: str
    """The place where tasks run, for the help: "in this process"."""
    forks: bool = False
    """Whether a fork server that was opened early (`workers.opened`) makes its workers start sooner."""
    elsewhere: bool = False
    """Whether tasks run on other machines: 0 workers are then as many as these have CPUs."""


def cores() -> int:
    """Return the number of processes that may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def task_name(index: int, task: object) -> str:
    """Return the name of a task in messages."""
    name = getattr(task, "name", "")
    return f"task {index} (`{name}`)" if name else f"task {index}"
