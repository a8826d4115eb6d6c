"""How far a run is, reported while tasks are running and not only when their shards are finished."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ...manifest import Shard
from ..conversion.job import RowRange, Task


class Reached(Struct, frozen=True):
    """How far a stage of a run is; within a stage no number decreases."""

    rows: int = 0
    """Rows of the source that were read."""
    bytes: int = 0
    """The bytes that they take in memory."""
    rejected: int = 0
    """Rows that were rejected."""
    stage: str = "converting"
    """What is being done, as a heading of the display."""
    total: int | None = None
    """The rows of the stage, if they are others than those of the source."""


OnProgress = Callable[[Reached], None]


def ignore_progress(reached: Reached) -> None:
    """Do nothing, for a run whose progress is not shown."""


class Progress:
    """Add up the positions that tasks report."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._reached: dict[str, Reached] = {}
        self._rows_by_input: dict[str, dict[int, int]] = {}

    def on_position(self, task: Task, position: object) -> None:
        """Count the rows of a task up to a position; a task that runs again counts only what is new."""
        if isinstance(position, RowRange) and (number := find_input(task, position)) is not None:
            rows = self._rows_by_input.setdefault(task.name, {})
            rows[number] = position.first - task.inputs[number].first_row
            self._report(task.name, Reached(sum(rows.values()), position.bytes, position.rejected))

    def on_shard(self, shard: Shard) -> None:
        """Count all rows of a finished shard."""
        self._rows_by_input.pop(shard.name, None)
        before = self._reached.get(shard.name, Reached())
        self._report(shard.name, Reached(shard.rows_in, before.bytes, shard.rejected))

    def _report(self, name: str, reached: Reached) -> None:
        if reached.rows > self._reached.get(name, Reached()).rows:
            self._reached[name] = reached
            every = self._reached.values()
            rows, size, rejected = (sum(getattr(one, key) for one in every) for key in ("rows", "bytes", "rejected"))
            self._on_progress(Reached(rows, size, rejected))


def find_input(task: Task, position: RowRange) -> int | None:
    """Return the index of the task's input that the position lies in."""
    for number, split in enumerate(task.inputs):
        stop = float("inf") if split.rows is None else split.first_row + split.rows
        if split.shown == position.file and split.first_row <= position.first <= stop:
            return number
    return None
