"""Run tasks on the executor and the workers that the user asked for; results come back in task order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from .. import executors
from ..manifest import Shard

if TYPE_CHECKING:
    from ..recipe import Run


class ShardTask(Protocol):
    """A task that writes one shard."""

    @property
    def name(self) -> str: ...


A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T", bound=ShardTask)


def run_tasks(
    fn: Callable[[A], R], tasks: Sequence[A], run: Run, on_position: executors.OnPosition[A] = executors.ignore_position
) -> Generator[R, None, None]:
    """Yield `fn(task)` for each task, in order; in this process if starting workers costs more than it saves."""
    chosen = executors.executor(run.executor)
    workers = run.workers or (0 if chosen.elsewhere else executors.cores())
    execute = chosen.run
    if chosen.forks and not executors.has_fork_server() and (workers == 1 or len(tasks) < 2):
        execute = executors.serial
    if execute is not executors.serial:
        threads = 1 if chosen.elsewhere else executors.cores() // max(1, min(workers, len(tasks)))
        fn = partial(with_threads, threads, fn)
    yield from execute(fn, tasks, workers, on_position)


def with_threads(threads: int, fn: Callable[[A], R], task: A) -> R:
    """Return `fn(task)`, run in a worker process in which `tokenizers` uses so many threads, or those the user set."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(max(1, threads)))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
    return fn(task)


def run_missing_tasks(
    fn: Callable[[T], Shard],
    tasks: Sequence[T],
    finished: Mapping[str, Shard],
    run: Run,
    on_position: executors.OnPosition[T] = executors.ignore_position,
) -> Generator[Shard, None, None]:
    """Yield the shards of the tasks, in order, and reuse those that an earlier run has `finished`."""
    missing = [task for task in tasks if task.name not in finished]
    with closing(run_tasks(fn, missing, run, on_position)) as shards:
        for task in tasks:
            yield finished[task.name] if task.name in finished else next(shards)
