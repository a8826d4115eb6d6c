"""Tasks for the executor tests: functions at the top of a module, so that workers can import them."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import jinja2

from chatfmt.errors import DialectError, Location, OutputError, RenderError
from chatfmt.executors import report_position, worker_main


@dataclass(frozen=True)
class Named:
    name: str
    flag: Path


def kill_self(name: str) -> None:
    """Die of a signal, without the traceback that pytest's fault handler would print."""
    faulthandler.disable()
    os.kill(os.getpid(), getattr(signal, name))


def square(number: int) -> int:
    return number * number


def report_steps(number: int) -> int:
    for step in range(number):
        report_position(f"step {step}")
    return number


def slow_square(number: int) -> int:
    time.sleep(0.2)
    return number * number


def slow_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


def process_id(number: int) -> int:
    time.sleep(0.03)
    return os.getpid()


def has_imported(module: str) -> bool:
    return module in sys.modules


def faults_of_more_arrays(megabytes: int) -> int:
    """Return the page faults of an array of that size, allocated after an equal one was freed."""
    import resource

    before = 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        len(bytearray(megabytes << 20))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def allocator_of_arrow(_: int) -> str:
    import pyarrow as pa

    return str(pa.default_memory_pool().backend_name)


def large(number: int) -> bytes:
    return bytes([number]) * 3_000_000


def fail(number: int) -> int:
    if number in (5, 7):
        raise DialectError(f"row {number} is bad", hint="look", at=Location("a.jsonl", number, 2), code="msg.role")
    return number


def fail_with(error: Exception) -> None:
    raise error


def fail_with_cause(number: int) -> None:
    try:
        raise jinja2.TemplateError("no such thing")
    except jinja2.TemplateError as error:
        raise RenderError("no such thing", code="template.raised") from error


def bug(number: int) -> None:
    raise KeyError("missing")


class Unpicklable(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def fail_unpicklable(number: int) -> None:
    raise Unpicklable("a", "b")


def no_memory(number: int) -> None:
    raise MemoryError


def die_once(task: Named) -> str:
    if not task.flag.exists():
        task.flag.write_text(str(os.getpid()))
        kill_self("SIGKILL")
    return task.name


def append_dot(task: Named) -> None:
    with task.flag.open("ab") as file:
        file.write(b".")
    time.sleep(0.02)


def append_dots(path: Path) -> None:
    for _ in range(600):
        with path.open("ab") as file:
            file.write(b".")
        time.sleep(0.01)


def die(task: Named) -> None:
    kill_self(task.flag.name)


@dataclass(frozen=True)
class Steps:
    """A task in steps of ten that dies at one number; row by row, in steps of one from the position of its death."""

    name: str
    deadly: int
    signal: str
    start: int = 0
    width: int = 10

    def row_by_row(self, position: range) -> Steps:
        return replace(self, start=position.start, width=1)


def step(task: Steps) -> int:
    for first in range(task.start, 100, task.width):
        report_position(range(first, first + task.width))
        if task.deadly in range(first, first + task.width):
            kill_self(task.signal)
    return task.start


@dataclass(frozen=True)
class Items:
    """Yield steps of ten and die at one number; only once if there is a flag file to create."""

    deadly: int
    signal: str
    flag: Path | None = None
    close: range = range(0)

    def row_by_row(self, position: range) -> Items:
        return replace(self, close=position)


def items(task: Items) -> Iterator[int]:
    for ten in range(0, 100, 10):
        width = 1 if ten in task.close else 10
        for first in range(ten, ten + 10, width):
            report_position(range(first, first + width))
            if task.deadly in range(first, first + width) and not (task.flag and task.flag.exists()):
                if task.flag:
                    task.flag.touch()
                kill_self(task.signal)
            yield first


def parent_id(number: int) -> tuple[int, bool]:
    time.sleep(0.02)
    return os.getppid(), "chatfmt.manifest" in sys.modules


def yield_process_id(number: int) -> Iterator[int]:
    yield os.getpid()


def count(number: int) -> Iterator[int]:
    yield from range(number)
    raise DialectError("that was the last", code="msg.role")


def leave(number: int) -> None:
    os._exit(3)


def stop_once(task: Named) -> str:
    if not task.flag.exists():
        task.flag.write_text("")
        os.kill(os.getpid(), signal.SIGSTOP)
    return task.name


def stop_midway(task: Named) -> str:
    """Stop once in the middle of a message."""

    def send_half(pipe: BinaryIO, message: object) -> None:
        pipe.write(pickle.dumps(message)[:-1])
        pipe.flush()
        os.kill(os.getpid(), signal.SIGSTOP)

    if not task.flag.exists():
        task.flag.write_text("")
        worker_main.send = send_half
        report_position("a place")
    return task.name


def chatter(number: int) -> int:
    print("noise on stdout")
    sys.stdout.flush()
    os.write(1, b"more noise")
    return number


def read_stdin(number: int) -> str:
    return sys.stdin.read() if sys.stdin else ""


def environment(number: int) -> tuple[str, bool, bool]:
    import pyarrow as pa

    pa.array([1])
    return os.environ["OPENBLAS_NUM_THREADS"], "pandas" in sys.modules, "datasets" in sys.modules


def mark_and_wait(folder: Path) -> None:
    (folder / str(os.getpid())).write_text("")
    time.sleep(60)


def full(number: int) -> None:
    raise OutputError("the disk is full", hint="free some", code="output.enospc")
