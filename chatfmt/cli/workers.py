"""Worker processes for the length of a command."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from . import terminal


@contextmanager
def worker_processes(executor: str = "processes", *modules: str) -> Iterator[None]:
    """Read data in worker processes inside the block, if the executor forks them, and print logged warnings.

    Workers import what converts data and `modules`; pandas is kept out of all processes.
    """
    from .. import executors
    from ..executors.worker_main import without_pandas

    without_pandas()
    forks = executor in executors.EXECUTORS and executors.EXECUTORS[executor].forks
    with (
        terminal.warnings_printed(),
        executors.opened("chatfmt.pipeline.running.run", *modules) if forks else nullcontext(),
    ):
        gc.freeze()  # imported modules stay; garbage collection was off while they were imported (`__main__`)
        gc.enable()
        yield
