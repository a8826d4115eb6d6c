"""Tasks in worker processes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .base import OnPosition, R, T, ignore_position


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
