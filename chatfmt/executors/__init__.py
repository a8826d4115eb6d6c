"""Executors run independent tasks and yield their results in task order. They know nothing of chat.

An executor runs `(fn, tasks, workers, on_position) -> Iterator[result]`. `fn` is a function at the top of a module;
tasks and results must pickle. An exception of `fn` is raised by the iterator, unchanged; if several tasks fail, the
first in task order. A worker that dies is replaced and its task run once more; if it dies again, an error with
`code="worker.lost"` names the task: InputError after a crash in native code, OutputError after a kill.

If `fn` calls `report_position`, that error includes the last position; if the task has a method `row_by_row(position)`,
`fn` is called once more with what it returns, which must report finer positions and change nothing. `on_position` is
called with each task and its positions too, in the thread that iterates over the results (Ray reports none).

When the iterator ends, raises or is closed, no worker is left: wrap it in `contextlib.closing` if the loop around it
may raise.

Names outside the registry are imported on first use, so that the help can list the executors at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnknownName
from ..lazy import attach
from .base import Executor, OnPosition, cores, ignore_position
from .local import processes, serial
from .position import report_position
from .ray import ray

if TYPE_CHECKING:
    from .workers import has_fork_server, in_worker, opened

__getattr__, _ = attach(__name__, {".workers": ("has_fork_server", "in_worker", "opened")})

EXECUTORS = {
    "serial": Executor(serial, "in this process"),
    "processes": Executor(processes, "in worker processes", forks=True),
    "ray": Executor(ray, "on a Ray cluster", elsewhere=True),
}
"""The executors by name; help, `--executor` and the fork server follow from an entry."""


def executor(name: str) -> Executor:
    """Return the executor with that name; raises UnknownName."""
    if name not in EXECUTORS:
        raise UnknownName.of("executor", name, EXECUTORS)
    return EXECUTORS[name]
