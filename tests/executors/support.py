"""What the executor tests share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatfmt import executors

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def children(pid: int | None = None) -> set[int]:
    """Return the pids of all descendants of a process, except zombies."""
    found, todo = set[int](), [pid or os.getpid()]
    while todo:
        parent = todo.pop()
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                fresh = {int(child) for child in thread.read_text().split()} - found
                found |= fresh
                todo += fresh
    return found


@contextlib.contextmanager
def opened(*modules: str) -> Iterator[None]:
    """Open a fork server even if the test runner has a thread, which only waits for this one meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatfmt.executors.fork_server.can_fork", lambda: True)
        with executors.opened("chatfmt.manifest", *modules):
            yield


def run(name: str, fn: Any, tasks: list[Any], workers: int = 2) -> list[Any]:
    return list(executors.executor(name).run(fn, tasks, workers))
