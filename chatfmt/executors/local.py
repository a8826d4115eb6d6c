"""Tasks on this machine: one after the other in this process, or in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .base import OnPosition, R, T, ignore_position
from .position import position_listener


def serial(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """Yield the results of the tasks, run one after the other in this process."""
    for task in tasks:
        with position_listener(partial(on_position, task)):
            result = fn(task)
        yield result


def processes(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """Yield the results of the tasks, run by up to `workers` processes that are started once for all of them."""
    from .pool import Pool

    pool = Pool(max(1, min(workers, len(tasks))))
    try:
        yield from pool.run(fn, tasks, on_position)
    finally:
        pool.close()
