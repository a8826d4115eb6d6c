"""Progress in rows, reported while tasks are running and not only when their shards are finished."""

from __future__ import annotations

from collections.abc import Callable

from ...manifest import Shard
from ..conversion.job import RowRange, Task

OnProgress = Callable[[int], None]
"""Called with the number of rows read so far, which never decreases."""


def ignore_progress(rows: int) -> None:
    """Do nothing, for a run whose progress is not shown."""


class Progress:
    """Add up the positions that tasks report."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress, self._total = on_progress, 0
        self._rows: dict[str, int] = {}
        self._rows_by_input: dict[str, dict[int, int]] = {}

    def on_position(self, task: Task, position: object) -> None:
        """Count the rows of a task up to a position; a task that runs again counts only what is new."""
        if isinstance(position, RowRange) and (number := find_input(task, position)) is not None:
            rows = self._rows_by_input.setdefault(task.name, {})
            rows[number] = position.first - task.inputs[number].first_row
            self._report(task.name, sum(rows.values()))

    def on_shard(self, shard: Shard) -> None:
        """Count all rows of a finished shard."""
        self._rows_by_input.pop(shard.name, None)
        self._report(shard.name, shard.rows_in)

    def _report(self, name: str, rows: int) -> None:
        more = rows - self._rows.get(name, 0)
        if more > 0:
            self._rows[name] = rows
            self._total += more
            self._on_progress(self._total)


def find_input(task: Task, position: RowRange) -> int | None:
    """Return the index of the task's input that the position lies in."""
    for number, split in enumerate(task.inputs):
        stop = float("inf") if split.rows is None else split.first_row + split.rows
        if split.shown == position.file and split.first_row <= position.first <= stop:
            return number
    return None
