"""A pool of worker processes that share tasks."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from .base import TASKS_AHEAD, OnPosition, R, T, task_name
from .messages import ERROR, POSITION, WorkerMessage, call_data, value_of
from .worker_died import WorkerDied, lost_twice, row_by_row
from .worker_handle import Worker
from .workers import current_workers

Outcome = WorkerMessage | BaseException
_log = logging.getLogger("chatfmt")


class Call(Struct):
    """A call in flight: its place in the order, the function, its task and both pickled, and dead workers so far."""

    index: int
    fn: Callable[[Any], Any]
    task: Any
    data: bytes
    deaths: int = 0


class Pool:
    """Worker processes, each served by a thread of its own that waits for its answers."""

    def __init__(self, size: int) -> None:
        self._size, self._closing = size, False
        self._workers = current_workers()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._alive: set[Worker] = set()
        self._not_started = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        with self._lock:  # which a thread needs to start its worker: it can then tell whether it is the last
            self._start_threads(size)

    def _start_threads(self, size: int) -> None:
        """Start the threads, or as many as the system allows; raises RuntimeError if it allows none."""
        for _ in range(size):
            thread = threading.Thread(target=self._serve, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if not self._threads:
                    raise
                _log.warning("continuing with fewer workers: %s", error)
                return
            self._threads.append(thread)

    def run(self, fn: Callable[[T], R], tasks: Sequence[T], on_position: OnPosition[T]) -> Iterator[R]:
        """Yield the results in task order; at most `TASKS_AHEAD` tasks per worker are in flight or not yielded yet."""
        answers: dict[int, Outcome] = {}
        sent, end = 0, len(tasks)
        for index in range(len(tasks)):
            while index not in answers:
                while sent < min(end, index + TASKS_AHEAD * self._size):
                    self._calls.put(Call(sent, fn, tasks[sent], call_data(fn, tasks[sent])))
                    sent += 1
                    if sent == len(tasks):
                        self._no_more_calls()
                number, answer = self._next()
                if isinstance(answer, WorkerMessage) and answer.kind == POSITION:
                    on_position(tasks[number], value_of(answer))
                    continue
                answers[number] = answer
                if isinstance(answer, BaseException) or answer.kind == ERROR:
                    end = min(end, number)  # the results after it will not be needed
            answer = answers.pop(index)
            if isinstance(answer, BaseException):
                raise answer
            yield value_of(answer)

    def _next(self) -> tuple[int, Outcome]:
        while True:
            with contextlib.suppress(queue.Empty):  # wakes up so that Ctrl-C works everywhere
                return self._answers.get(timeout=0.5)

    def close(self) -> None:
        """End all workers, busy ones too, and wait for them."""
        with self._lock:
            self._closing = True
            for worker in self._alive:
                worker.kill()  # all of them first: they free their memory side by side
            for worker in self._alive:
                worker.end()
        self._no_more_calls()
        for thread in self._threads:
            thread.join()

    def _no_more_calls(self) -> None:
        """Let each thread end its worker, and free its memory, when no call is left for it."""
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        """Start a worker, give it calls and replace it when it dies; the main function of a thread."""
        if hasattr(signal, "pthread_sigmask"):  # inherited: Ctrl-C is for the parent, also while a worker is starting
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker = self._start_first()
        while worker and (call := self._calls.get()) is not None:
            try:
                worker = self._run(worker, call)
            except OSError as error:  # a dead worker could not be replaced
                self._answers.put((call.index, error))
                worker = None
        if worker:
            self._end(worker)

    def _start_first(self) -> Worker | None:
        """Start the first worker of a thread; None if the system refuses and other threads have to do."""
        try:
            return self._start()
        except OSError as error:
            with self._lock:
                self._not_started += 1
                is_last = self._not_started == len(self._threads)
            if is_last and (call := self._calls.get()) is not None:  # no thread is left to answer it
                self._answers.put((call.index, error))
            else:
                _log.warning("continuing with one worker fewer: %s", error)
            return None

    def _run(self, worker: Worker, call: Call) -> Worker | None:
        """Run a call; return the worker for the next one, None if the pool is closing."""
        while True:
            try:
                for message in worker.call(call.data):
                    self._answers.put((call.index, message))
                return worker
            except WorkerDied as died:
                fresh = self._replace(worker)
                if fresh is None:
                    return None
                worker, call.deaths = fresh, call.deaths + 1
                if call.deaths > 1:
                    return self._give_up(worker, call, died)
                _log.warning("%s while running %s; retrying", died, task_name(call.index, call.task))
            except BaseException as error:  # a thread that died silently would hang the run
                self._answers.put((call.index, error))
                return worker

    def _give_up(self, worker: Worker, call: Call, died: WorkerDied) -> Worker | None:
        """Answer with an error; if the task can run row by row, do that first to find the row that kills workers."""
        task = row_by_row(call.task, died.position)
        if task is not call.task:
            try:
                for _ in worker.call(call_data(call.fn, task)):
                    pass
            except WorkerDied as again:
                died.position = again.position or died.position
                fresh = self._replace(worker)
                if fresh is None:
                    return None
                worker = fresh
        self._answers.put((call.index, lost_twice(died, task_name(call.index, call.task))))
        return worker

    def _replace(self, worker: Worker) -> Worker | None:
        self._end(worker)
        return self._start()

    def _start(self) -> Worker | None:
        """Start a worker, unless the pool is closing."""
        with self._lock:
            if self._closing:
                return None
            worker = self._workers.take()
            self._alive.add(worker)
            return worker

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._alive.discard(worker)
        worker.end()
