"""Tasks on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import MissingExtra
from .base import TASKS_AHEAD, OnPosition, R, T, ignore_position, task_name
from .worker_died import WorkerDied, lost_twice


def ray(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """Yield the results of the tasks, run on a Ray cluster (`RAY_ADDRESS`), else on a local one of `workers` processes.

    chatfmt and its dependencies must be installed on each node, and the files that the tasks name must be there.
    Positions are not reported.
    """
    try:
        import ray as engine
    except ImportError:
        raise MissingExtra.of("ray", "ray") from None
    from .messages import outcome

    if not engine.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        engine.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    remote = engine.remote(max_retries=1, num_cpus=1)(outcome)
    refs: dict[int, Any] = {}
    try:
        for index, task in enumerate(tasks):
            for ahead in range(index + len(refs), min(index + TASKS_AHEAD * max(workers, 1), len(tasks))):
                refs[ahead] = remote.remote(fn, tasks[ahead])
            yield _result(engine, refs.pop(index), task_name(index, task))
    finally:
        for ref in refs.values():  # tasks whose results will not be read must not write any more
            engine.cancel(ref, force=True)


def _result(engine: Any, ref: Any, name: str) -> Any:
    from .messages import value_of

    try:
        return value_of(engine.get(ref))
    except engine.exceptions.RayError as error:
        raise lost_twice(WorkerDied(f"Ray lost it twice: {type(error).__name__}"), name) from error
