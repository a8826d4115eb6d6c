"""The workers that a process starts: forked inside an `opened` block, fresh interpreters outside of one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from itertools import islice

from . import fork_server
from .base import R, T
from .messages import POSITION, RESULT, call_data, value_of
from .worker_died import WorkerDied, lost_twice, row_by_row
from .worker_handle import Worker

_log = logging.getLogger("chatfmt")


class Workers:
    """Starts workers, and keeps those that are idle, with all that they have imported, for the next task."""

    def __init__(self, server: fork_server.ForkServer | None = None) -> None:
        self.server = server
        self._idle: list[Worker] = []

    def take(self) -> Worker:
        """Return an idle worker, else a new one; raises OSError if none can start."""
        return self._idle.pop() if self._idle else Worker(self.server)

    def put_back(self, worker: Worker) -> None:
        """Keep a worker that has finished its call."""
        self._idle.append(worker)

    def close(self) -> None:
        """End the idle workers and the fork server."""
        while self._idle:
            self._idle.pop().end()
        if self.server is not None:
            self.server.close()


_current: ContextVar[Workers | None] = ContextVar("workers", default=None)


def current_workers() -> Workers:
    """Return the workers of the `opened` block around the caller; outside of one, workers without a fork server."""
    return _current.get() or Workers()


def has_fork_server() -> bool:
    """Return whether a fork server is open, so that another worker costs next to nothing."""
    return _current.get() is not None


@contextlib.contextmanager
def opened(module: str, *more: str) -> Iterator[None]:
    """Open a fork server for the block, where that is safe; see `start_fork_server` for the modules."""
    if not fork_server.can_fork():
        yield
        return
    workers = Workers(fork_server.start_fork_server(module, *more))
    token = _current.set(workers)
    try:
        yield
    finally:
        _current.reset(token)
        workers.close()


def in_worker(fn: Callable[[T], Iterator[R]], task: T) -> Generator[R, None, None]:
    """Yield the items of the generator `fn(task)`: from a worker if a fork server is open, else from this process.

    In a worker, a crash in native code becomes an error here: raises what `fn` raises, and `worker.lost` errors as
    `processes` does. A worker that dies is replaced once: `fn` must yield the same again, and what was yielded before
    is skipped.
    """
    if not has_fork_server():
        yield from fn(task)
        return
    count = 0
    try:
        for item in _items(fn, task):
            count += 1
            yield item
    except WorkerDied as died:
        _log.warning("%s%s; retrying", died, died.at)
        try:
            yield from islice(_items(fn, row_by_row(task, died.position)), count, None)
        except WorkerDied as again:
            raise lost_twice(again) from None


def _items(fn: Callable[[T], Iterator[R]], task: T) -> Iterator[R]:
    workers = current_workers()
    worker, finished = workers.take(), False
    try:
        for message in worker.call(call_data(fn, task, is_generator=True)):
            if message.kind == POSITION:
                continue
            value = value_of(message)
            if message.kind != RESULT:
                yield value
        finished = True
    finally:
        if finished:
            workers.put_back(worker)
        else:
            worker.end()
