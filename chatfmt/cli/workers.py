"""Worker processes for the length of a command."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

from . import terminal

SAFE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Endings of text files, which do not crash their readers however damaged they are."""
SMALL_BYTES = 1 << 20
"""Bytes of text that are converted before a worker has started."""


def need_no_worker(sources: Sequence[str]) -> bool:
    """Return whether the sources are text files so small that workers would cost more than they save."""
    is_text = all(file.endswith(SAFE_SUFFIXES) and os.path.isfile(file) for file in sources)  # noqa: PTH113 a long name
    return is_text and sum(os.path.getsize(file) for file in sources) <= SMALL_BYTES  # noqa: PTH202


@contextmanager
def worker_processes(executor: str = "processes", *modules: str) -> Iterator[None]:
    """Read data in worker processes inside the block, if the executor forks them, and print logged warnings.

    Workers import what converts data and `modules`; pandas is kept out of all processes.
    """
    from .. import executors
    from ..executors.worker_main import keep_memory, without_pandas

    without_pandas()
    keep_memory()
    forks = executor in executors.EXECUTORS and executors.EXECUTORS[executor].forks
    with (
        terminal.warnings_printed(),
        executors.opened("chatfmt.pipeline.running.run", *modules) if forks else nullcontext(),
    ):
        gc.freeze()  # imported modules stay; garbage collection was off while they were imported (`__main__`)
        gc.enable()
        yield


def reading_in_workers(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command so that it reads its sources in worker processes, but for one small text file."""

    @wraps(command)
    def call(source: Sequence[str], **given: Any) -> None:
        alone = len(source) == 1 and given.get("workers") is None and need_no_worker(source)
        with worker_processes("serial" if alone else "processes"):
            command(source, **given)

    return call
