"""Worker processes that share tasks, and what is said when one of them dies."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from msgspec import Struct

from ..errors import ChatfmtError, InputError, OutputError
from . import fork_server
from .base import TASKS_AHEAD, OnPosition, task_name
from .messages import FAILED, ITEM
from .worker_handle import Worker, WorkerDied, payload_of
from .worker_main import each, result

T = TypeVar("T")
R = TypeVar("R")
_log = logging.getLogger("chatfmt")


def has_fork_server() -> bool:
    """Return whether a fork server is open, so that another worker costs next to nothing."""
    return fork_server.current() is not None


def in_worker(fn: Callable[[T], Iterator[R]], task: T) -> Generator[R, None, None]:
    """Yield what the generator `fn(task)` yields: from a worker if a fork server is open, else from this process.

    In a worker, a crash in native code becomes an error here: raises what `fn` raises, and `worker.lost` errors as
    `processes` does. A worker that dies is replaced once: `fn` must yield the same again, and what was yielded before
    is skipped.
    """
    if not has_fork_server():
        yield from fn(task)
        return
    given = 0
    try:
        for value in _yielded(fn, task):
            given += 1
            yield value
    except WorkerDied as lost:
        _log.warning("%s%s; doing it again", lost, _where(lost))
        try:
            yield from islice(_yielded(fn, _row_by_row(task, lost.place)), given, None)
        except WorkerDied as again:
            raise _lost(again) from None


def _yielded(fn: Callable[[T], Iterator[R]], task: T) -> Iterator[R]:
    worker, ended = take_worker(), False
    try:
        for message in worker.messages(payload_of(each, (fn, task))):
            value = result(message)
            if message[:1] == ITEM:
                yield value
        ended = True
    finally:
        if ended:
            _idle.append(worker)
        else:
            worker.end()


def _row_by_row(task: Any, place: object) -> Any:
    """The task that tells its places finely about `place`, where it can."""
    return task.row_by_row(place) if place is not None and hasattr(task, "row_by_row") else task


_idle: list[Worker] = []
"""Workers that ended what they did, with all that they have imported."""


def take_worker() -> Worker:
    """A worker that is idle, else a new one."""
    return _idle.pop() if _idle else Worker()


@contextlib.contextmanager
def opened(module: str, *more: str) -> Iterator[None]:
    """A block in which workers are forked where that is safe; see `nursery.opened` for the modules they start with."""
    with fork_server.opened(module, *more):
        try:
            yield
        finally:
            while _idle:
                _idle.pop().end()


class Job(Struct):
    """A call in flight: its place in the order, what to call with which task, and how often its worker died."""

    index: int
    fn: Callable[[Any], Any]
    task: Any
    payload: bytes
    lost: int = 0


class Told(Struct, frozen=True):
    """A place that a task is at."""

    place: object


class Pool:
    """Worker processes, each served by a thread of its own that waits for its answers."""

    def __init__(self, workers: int) -> None:
        self._workers, self._closing = workers, False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, bytes | BaseException | Told]] = queue.SimpleQueue()
        self._alive: set[Worker] = set()
        self._refused = 0
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, fn: Callable[[T], R], tasks: Sequence[T], on_position: OnPosition[T]) -> Iterator[R]:
        """The results in task order; at most `TASKS_AHEAD` tasks a worker are in flight or waiting to be yielded."""
        done: dict[int, bytes | BaseException] = {}
        sent, end = 0, len(tasks)
        for index in range(len(tasks)):
            while index not in done:
                while sent < min(end, index + TASKS_AHEAD * self._workers):
                    self._jobs.put(Job(sent, fn, tasks[sent], payload_of(fn, tasks[sent])))
                    sent += 1
                number, value = self._next()
                if isinstance(value, Told):
                    on_position(tasks[number], value.place)
                    continue
                done[number] = value
                if isinstance(value, BaseException) or value[:1] == FAILED:
                    end = min(end, number)  # what comes after it will not be asked for
            answer = done.pop(index)
            if isinstance(answer, BaseException):
                raise answer
            yield result(answer)

    def _next(self) -> tuple[int, bytes | BaseException | Told]:
        while True:
            with contextlib.suppress(queue.Empty):  # wakes up so that Ctrl-C works everywhere
                return self._done.get(timeout=0.5)

    def close(self) -> None:
        """End all workers, at once where they are at work, and wait for them."""
        with self._guard:
            self._closing = True
            for worker in self._alive:
                worker.kill()  # all of them first: they take their memory down side by side
            for worker in self._alive:
                worker.end()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        """One thread: start a worker, hand it jobs, replace it when it dies."""
        if hasattr(signal, "pthread_sigmask"):  # inherited: Ctrl-C is for the parent, also while a worker is starting
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker = self._first()
        while worker and (job := self._jobs.get()) is not None:
            try:
                worker = self._do(worker, job)
            except OSError as error:  # no worker can take the place of one that died
                self._done.put((job.index, error))
                worker = None
        if worker:
            self._forget(worker)

    def _first(self) -> Worker | None:
        """The first worker of a thread; None where the system refuses it, and the others have to do."""
        try:
            return self._start()
        except OSError as error:
            with self._guard:
                self._refused += 1
                none = self._refused == len(self._threads)
            if none and (job := self._jobs.get()) is not None:  # nobody else would say it, and the run would hang
                self._done.put((job.index, error))
            else:
                _log.warning("going on with one worker fewer: %s", error)
            return None

    def _do(self, worker: Worker, job: Job) -> Worker | None:
        """Run a job; the worker for the next one, None when the pool is closing."""
        while True:
            try:
                self._done.put((job.index, worker.call(job.payload, partial(self._tell, job.index))))
                return worker
            except WorkerDied as lost:
                fresh = self._replaced(worker)
                if fresh is None:
                    return None
                worker, job.lost = fresh, job.lost + 1
                if job.lost > 1:
                    return self._narrow(worker, job, lost)
                _log.warning("%s while it did %s; doing it again", lost, task_name(job.index, job.task))
            except BaseException as error:  # a thread that dies silently would hang the run
                self._done.put((job.index, error))
                return worker

    def _tell(self, index: int, place: object) -> None:
        self._done.put((index, Told(place)))

    def _narrow(self, worker: Worker, job: Job, lost: WorkerDied) -> Worker | None:
        """Give a job up; where its task can be looked at more closely, that is done first to say where it dies."""
        row_by_row = _row_by_row(job.task, lost.place)
        if row_by_row is not job.task:
            try:
                worker.call(payload_of(job.fn, row_by_row))
            except WorkerDied as again:
                lost.place = again.place or lost.place
                fresh = self._replaced(worker)
                if fresh is None:
                    return None
                worker = fresh
        self._done.put((job.index, _lost(lost, task_name(job.index, job.task))))
        return worker

    def _replaced(self, worker: Worker) -> Worker | None:
        self._forget(worker)
        return self._start()

    def _start(self) -> Worker | None:
        with self._guard:
            if self._closing:
                return None
            worker = take_worker()
            self._alive.add(worker)
            return worker

    def _forget(self, worker: Worker) -> None:
        with self._guard:
            self._alive.discard(worker)
        worker.end()


def _lost(lost: WorkerDied, task: str = "") -> ChatfmtError:
    """The error for what was lost twice."""
    if lost.crash:
        said = f"native code crashed twice{task and ' on '}{task}: {lost}{_where(lost)}"
        hint = "its input may be damaged: read it with another tool, or leave it out"
        return InputError(said, hint=hint, code="worker.lost")
    hint = "use fewer `--workers`, then run again with `--resume`"
    return OutputError(f"two workers died{task and ' at '}{task}: {lost}{_where(lost)}", hint=hint, code="worker.lost")


def _where(lost: WorkerDied) -> str:
    return "" if lost.place is None else f", at {lost.place}"
