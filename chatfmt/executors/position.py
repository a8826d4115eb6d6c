"""The position of the running task in its input, reported to whatever runs the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[object], object] | None] = ContextVar("position_listener", default=None)


def report_position(position: object) -> None:
    """Report where the running task is, for the progress bar and for the error if its worker dies there.

    Does nothing outside a task.
    """
    if (listener := _listener.get()) is not None:
        listener(position)


@contextmanager
def position_listener(listener: Callable[[object], object]) -> Iterator[None]:
    """Call `listener` with the positions that are reported inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
