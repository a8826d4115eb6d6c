"""Tasks on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..errors import ChatfmtError, MissingExtra, OutputError
from .base import TASKS_AHEAD, OnPosition, ignore_position, task_name

T = TypeVar("T")
R = TypeVar("R")


def ray(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """The results of the tasks, run on a Ray cluster (`RAY_ADDRESS`), else on a local one of `workers` processes.

    chatfmt and its dependencies, and the files that the tasks name, must be there on each node. Places are not told.
    """
    try:
        import ray as engine
    except ImportError:
        raise MissingExtra.of("ray", "ray") from None
    from .worker_main import outcome

    if not engine.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        engine.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    remote = engine.remote(max_retries=1, num_cpus=1)(outcome)
    refs: dict[int, Any] = {}
    try:
        for index, task in enumerate(tasks):
            for ahead in range(index + len(refs), min(index + TASKS_AHEAD * max(workers, 1), len(tasks))):
                refs[ahead] = remote.remote(fn, tasks[ahead])
            yield _result(engine, refs, index, task)
    finally:
        for ref in refs.values():  # what nobody will ask for must not write any more
            engine.cancel(ref, force=True)


def _result(engine: Any, refs: dict[int, Any], index: int, task: object) -> Any:
    from .worker_main import result

    try:
        return result(engine.get(refs.pop(index)))
    except engine.exceptions.RayError as error:
        raise _lost(task_name(index, task), type(error).__name__) from error


def _lost(name: str, how: str) -> ChatfmtError:
    hint = "use fewer `--workers`, then run again with `--resume`"
    return OutputError(f"two workers died at {name}: Ray lost it twice: {how}", hint=hint, code="worker.lost")
