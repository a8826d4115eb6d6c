"""Kill processes that were stopped (SIGSTOP): whatever waits for them then reads the end of their pipe."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CHECK_EVERY, CHECK_AGAIN_AFTER = 10.0, 1.0
"""Seconds between two looks at a process, and between the first that finds it stopped and the last."""


class Watchdog:
    """A thread that watches one process and kills it if it stays stopped; Linux only."""

    def __init__(self, pid: int, kill: Callable[[], object]) -> None:
        self._pid, self._kill, self._closed = pid, kill, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if sys.platform == "linux":
            with suppress(RuntimeError):  # no thread can start: it is not watched
                self._thread.start()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(CHECK_EVERY):
            # twice: after Ctrl-Z and `fg`, this process may run again before the others do
            if is_stopped(self._pid) and not self._closed.wait(CHECK_AGAIN_AFTER) and is_stopped(self._pid):
                self._kill()


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped; False if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False
