"""Executors run independent tasks and yield their results in task order. They know nothing of chat.

An executor is `(fn, tasks, workers) -> Iterator[result]`. `fn` is a function at the top of a module; tasks and results
pickle. What `fn` raises is raised by the iterator, as it was, and the first in task order wins. A worker that dies is
replaced and its task run once more; the second time an error with `code="worker.lost"` names the task: InputError for a
crash in native code, OutputError for a kill. When the iterator ends, raises or is closed, no worker is left: wrap it in
`contextlib.closing` where the loop around it may raise.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from .errors import ChatfmtError, InputError, MissingExtra, OutputError, UnknownName

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Tasks in flight a worker, so that one slow task does not leave the other workers without any."""
PATIENCE = 10.0
"""Seconds without an answer after which a worker is looked at: one that is stopped counts as lost."""
LENGTH = struct.Struct("<Q")
BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from chatfmt.executors import work;work()"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Each worker has one core: thread pools would only cost memory and start-up."""
CRASHES = {
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE") if hasattr(signal, name)
}


class Executor(Protocol):
    def __call__(self, fn: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]: ...


def serial(fn: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]:
    """The results of the tasks, run one after the other in this process."""
    yield from map(fn, tasks)


def processes(fn: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]:
    """The results of the tasks, run by up to `workers` processes that are started once and last for all of them."""
    pool = _warm.pop() if _warm else Pool(max(1, min(workers, len(tasks))))
    try:
        yield from pool.run(fn, tasks)
    finally:
        pool.close()


_warm: list[Pool] = []


def warm(workers: int, module: str = "") -> None:
    """Start the workers of the next `processes` now and let them import `module`, beside what this process does."""
    cool()
    _warm.append(Pool(workers, module))


def cool() -> None:
    """End workers that were warmed and are not needed after all."""
    while _warm:
        _warm.pop().close()


@contextlib.contextmanager
def warmed(workers: int, module: str = "") -> Iterator[None]:
    """A block with warm workers for the next `processes` in it; those that nobody needed end with it. 0 is none."""
    if workers:
        warm(workers, module)
    try:
        yield
    finally:
        cool()


def cores() -> int:
    """How many processes may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ray(fn: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]:
    """The results of the tasks, run on a Ray cluster (`RAY_ADDRESS`), else on a local one of `workers` processes.

    chatfmt and its dependencies, and the files that the tasks name, must be there on each node.
    """
    try:
        import ray as engine
    except ImportError:
        raise MissingExtra.of("ray", "ray") from None
    if not engine.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        engine.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    remote = engine.remote(max_retries=1, num_cpus=1)(outcome)
    refs: dict[int, Any] = {}
    for index, task in enumerate(tasks):
        for ahead in range(index, min(index + AHEAD * workers, len(tasks))):
            refs.setdefault(ahead, remote.remote(fn, tasks[ahead]))
        yield _ray_result(engine, refs, index, task)


def _ray_result(engine: Any, refs: dict[int, Any], index: int, task: object) -> Any:
    try:
        return result(engine.get(refs.pop(index)))
    except engine.exceptions.RayError as error:
        for ref in refs.values():
            engine.cancel(ref, force=True)
        raise _lost(index, task, f"Ray lost it twice: {type(error).__name__}", crash=False) from error


@dataclass
class Job:
    """A task in flight: its place, its pickled form, what came of it, and how often its worker died."""

    index: int
    task: object
    payload: bytes
    lost: int = 0


class Pool:
    """Worker processes, each served by a thread of its own that waits for its answers."""

    def __init__(self, workers: int, module: str = "") -> None:
        self._workers, self._module, self._closing = workers, module, False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, bytes | BaseException]] = queue.SimpleQueue()
        self._alive: set[Worker] = set()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """The results in task order; at most `AHEAD` tasks a worker are in flight or waiting to be yielded."""
        done: dict[int, bytes | BaseException] = {}
        sent, end = 0, len(tasks)
        for index in range(len(tasks)):
            while index not in done:
                while sent < min(end, index + AHEAD * self._workers):
                    self._jobs.put(Job(sent, tasks[sent], pickle.dumps((fn, tasks[sent]), 5)))
                    sent += 1
                place, value = self._next()
                done[place] = value
                if isinstance(value, BaseException) or value[:1] == FAILED:
                    end = min(end, place)  # what comes after it will not be asked for
            answer = done.pop(index)
            if isinstance(answer, BaseException):
                raise answer
            yield result(answer)

    def _next(self) -> tuple[int, bytes | BaseException]:
        while True:
            with contextlib.suppress(queue.Empty):  # wakes up so that Ctrl-C works everywhere
                return self._done.get(timeout=0.5)

    def close(self) -> None:
        """End all workers, at once where they are at work, and wait for them."""
        with self._guard:
            self._closing = True
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
        worker = self._start()
        while worker and (job := self._jobs.get()) is not None:
            worker = self._do(worker, job)
        if worker:
            self._forget(worker)

    def _do(self, worker: Worker, job: Job) -> Worker | None:
        """Run a job; the worker for the next one, None when the pool is closing."""
        while True:
            try:
                self._done.put((job.index, worker.call(job.payload)))
                return worker
            except Lost as lost:
                self._forget(worker)
                fresh = self._start()
                if fresh is None:
                    return None
                worker, job.lost = fresh, job.lost + 1
                if job.lost > 1:
                    self._done.put((job.index, _lost(job.index, job.task, str(lost), crash=lost.crash)))
                    return worker
                _log.warning("%s while it did %s; doing it again", lost, _name(job.index, job.task))
            except BaseException as error:  # a thread that dies silently would hang the run
                self._done.put((job.index, error))
                return worker

    def _start(self) -> Worker | None:
        with self._guard:
            if self._closing:
                return None
            worker = Worker(self._module)
            self._alive.add(worker)
            return worker

    def _forget(self, worker: Worker) -> None:
        with self._guard:
            self._alive.discard(worker)
        worker.end()


class Lost(Exception):
    """A worker died; in words how, and whether it crashed by itself."""

    def __init__(self, how: str, crash: bool) -> None:
        super().__init__(how)
        self.crash = crash


class Worker:
    """One process that runs `work`: pickled tasks in on its stdin, pickled outcomes out, each after its length."""

    def __init__(self, module: str = "") -> None:
        path = json.dumps([str(Path(entry).resolve()) if entry else str(Path.cwd()) for entry in sys.path])
        command = [sys.executable, "-c", BOOT, path, str(os.getpid()), module]
        env = {**ONE_THREAD, **os.environ}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0)

    def call(self, payload: bytes) -> bytes:
        """The outcome of a task; raises Lost when the worker dies or is stopped."""
        try:
            _send(cast(BinaryIO, self._process.stdin), payload)
            answer = _receive(cast(BinaryIO, self._process.stdout), self._wait)
        except (OSError, ValueError):  # it died while it was written to, or was ended
            answer = None
        if answer is None:
            raise self._obituary()
        return answer

    def _wait(self) -> None:
        """Return when there is something to read; kills a worker that somebody stopped."""
        if os.name == "nt":
            return
        stopped = 0
        while not select.select([cast(BinaryIO, self._process.stdout)], [], [], PATIENCE if not stopped else 1.0)[0]:
            stopped = stopped + 1 if _is_stopped(self._process.pid) else 0
            if stopped > 1:
                self._process.kill()

    def _obituary(self) -> Lost:
        code = self._process.wait()
        who = f"worker {self._process.pid}"
        if code >= 0:
            return Lost(f"{who} ended with exit code {code}", False)
        name = signal.Signals(-code).name
        why = " (out of memory?)" if name == "SIGKILL" else ""
        return Lost(f"{who} was killed by {name}{why}", -code in CRASHES)

    def end(self) -> None:
        """Kill the process, if it is there, and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(BinaryIO, pipe).close()


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _lost(index: int, task: object, how: str, *, crash: bool) -> ChatfmtError:
    name = _name(index, task)
    if crash:
        hint = "its input may be damaged: read it with another tool, or leave it out"
        return InputError(f"native code crashed twice on {name}: {how}", hint=hint, code="worker.lost")
    hint = "use fewer `--workers`, then run again with `--resume`"
    return OutputError(f"two workers died at {name}: {how}", hint=hint, code="worker.lost")


def _name(index: int, task: object) -> str:
    name = getattr(task, "name", "")
    return f"task {index} (`{name}`)" if name else f"task {index}"


WORKED, FAILED = b"+", b"-"


def outcome(fn: Callable[[Any], Any], task: Any) -> bytes:
    """What came of `fn(task)`, its result or its error, in bytes for `result`."""
    try:
        return WORKED + pickle.dumps(fn(task), 5)
    except MemoryError:
        error: BaseException = OutputError(
            "a task ran out of memory", hint="use fewer `--workers`", code="worker.memory"
        )
        return FAILED + pickle.dumps((error, None))
    except BaseException as error:
        return FAILED + _pickled_error(error)


def result(answer: bytes) -> Any:
    """The result that `outcome` put into bytes; raises the error that it put there, with its cause."""
    value = pickle.loads(memoryview(answer)[1:])
    if answer[:1] == WORKED:
        return value
    error, cause = value
    raise error from cause


def _pickled_error(error: BaseException) -> bytes:
    cause = error.__cause__
    if not isinstance(error, ChatfmtError):  # a bug: its traceback would be lost
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    for pair in ((error, cause), (error, None)):
        with contextlib.suppress(Exception):
            data = pickle.dumps(pair)
            pickle.loads(data)
            return data
    text = "".join(traceback.format_exception(error))
    return pickle.dumps((RuntimeError(f"{type(error).__name__} in a worker, which does not pickle:\n{text}"), None))


def work() -> None:
    """Be a worker: answer tasks until stdin ends. Prints go to stderr, for stdout is the way back."""
    tasks, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _die_with_parent(int(sys.argv[2]))
    from .schema import without_pandas

    without_pandas()
    if sys.argv[3]:
        __import__(sys.argv[3])
    while (payload := _receive(tasks)) is not None:
        _send(answers, outcome(_run, payload))
    os._exit(0)


def _run(payload: bytes) -> Any:
    fn, task = pickle.loads(payload)
    return fn(task)


def _die_with_parent(parent: int) -> None:
    """Ask Linux for a SIGKILL when the parent is gone; elsewhere the end of stdin has to do, after the task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _send(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        view = view[pipe.write(view) :]


def _receive(pipe: BinaryIO, wait: Callable[[], None] = lambda: None) -> bytes | None:
    """The next message; None at the end of the pipe, also in the middle of a message."""
    wait()
    head = _exactly(pipe, LENGTH.size)
    return None if head is None else _exactly(pipe, LENGTH.unpack(head)[0])


def _exactly(pipe: BinaryIO, size: int) -> bytes | None:
    pieces = []
    while size:
        piece = pipe.read(min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


_log = logging.getLogger("chatfmt")

EXECUTORS: dict[str, Executor] = {"serial": serial, "processes": processes, "ray": ray}


def executor(name: str) -> Executor:
    """The executor with that name; raises UnknownName."""
    if name not in EXECUTORS:
        raise UnknownName.of("executor", name, EXECUTORS)
    return EXECUTORS[name]
